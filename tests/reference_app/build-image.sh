#!/bin/sh
# Build the image without a Docker daemon, and run it: on a base made by debootstrap, in a chroot.
#
#   tests/reference_app/build-image.sh FOLDER [flag of `buildah bud` ...]
#
# Needs root, buildah and debootstrap; FOLDER holds base and storage, a few gigabytes, and is kept.
set -eu

folder=$1
shift
root=$(cd "$(dirname "$0")/../.." && pwd)
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
storage="--root $folder/storage --runroot $folder/run"

if [ ! -e "$folder/root/usr/bin/python3" ]; then
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates \
        bookworm "$folder/root" http://deb.debian.org/debian
fi
# shellcheck disable=SC2086
if ! buildah $storage inspect localhost/base >/dev/null 2>&1; then
    base=$(buildah $storage from scratch)
    buildah $storage copy --quiet "$base" "$folder/root" / >/dev/null
    buildah $storage commit --quiet "$base" localhost/base >/dev/null
    buildah $storage rm "$base" >/dev/null
fi

# shellcheck disable=SC2086
buildah $storage bud --layers --build-arg BASE=localhost/base --tag memoserve "$@" "$root"

# shellcheck disable=SC2086
container=$(buildah $storage from memoserve)
trap 'buildah $storage rm "$container" >/dev/null' EXIT
# shellcheck disable=SC2086,SC2016
buildah $storage run --env MODELS=bundled --env PORT=18080 "$container" -- sh -c '
    test "$(id -u)" = 10001 || { echo "it runs as $(id -u)"; exit 1; }
    if touch /srv/written 2>/dev/null; then echo "its user can change the app"; exit 1; fi
    python -m reference_app --host 127.0.0.1 --port $PORT --workers 2 &
    server=$!
    python - <<EOF
import json, time, urllib.request as r
url = "http://127.0.0.1:$PORT"
for _ in range(600):
    try:
        r.urlopen(url + "/health/ready", timeout=60)
        break
    except OSError:
        time.sleep(0.2)
for _ in "ab":
    ask = r.Request(url + "/v1/sentiment", b"{\"text\": \"Dinner was lovely.\"}",
                    {"Content-Type": "application/json"})
    with r.urlopen(ask, timeout=60) as answer:
        print(answer.headers["Cache-Status"], json.load(answer)["label"])
EOF
    kill -TERM $server
    wait $server
'
echo "the image was built and answers"

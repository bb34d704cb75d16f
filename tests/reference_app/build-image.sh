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

# Docker's format, because the other has no place for a healthcheck.
# shellcheck disable=SC2086
buildah $storage bud --format docker --layers --build-arg BASE=localhost/base --tag memoserve "$@" "$root"

# shellcheck disable=SC2086
{
    command=$(buildah $storage inspect --format '{{range .OCIv1.Config.Cmd}}{{.}} {{end}}' memoserve)
    check=$(buildah $storage inspect --format '{{index .Docker.Config.Healthcheck.Test 3}}' memoserve)
    container=$(buildah $storage from memoserve)
}
trap 'buildah $storage rm "$container" >/dev/null' EXIT
# shellcheck disable=SC2086
user=$(buildah $storage run "$container" -- id -u)
[ "$user" = 10001 ] || { echo "it runs as $user"; exit 1; }

# As its command says, with no network, for a user who can write to /tmp alone. Root is needed only
# to mount; what is started has no capability.
# shellcheck disable=SC2086,SC2016
unshare --net sh -c 'ip link set lo up && exec "$@"' - \
    buildah $storage run --user 0 --cap-add CAP_SYS_ADMIN --env MODELS=bundled "$container" -- sh -c '
    mount -o remount,bind,ro / && mount -t tmpfs tmpfs /tmp
    exec setpriv --reuid 10001 --regid 10001 --clear-groups --bounding-set -all sh -c "$@"
' - '
    if touch /srv/written /models/written /opt/venv/written 2>/dev/null; then
        echo "it can write to its image"
        exit 1
    fi
    $0 &
    server=$!
    python - "$1" <<EOF
import http.client, json, subprocess, sys, time
for _ in range(300):
    if subprocess.run([sys.executable, "-c", sys.argv[1]], stderr=subprocess.DEVNULL).returncode == 0:
        break
    time.sleep(0.5)
else:
    sys.exit("its healthcheck fails")
one_worker = http.client.HTTPConnection("127.0.0.1", 8000, timeout=60)
for expected in ("fwd=miss", "hit"):
    one_worker.request("POST", "/v1/sentiment", b"{\"text\": \"Dinner was lovely.\"}",
                       {"Content-Type": "application/json"})
    answer = one_worker.getresponse()
    status, label = answer.headers["Cache-Status"], json.load(answer)["label"]
    print(status, label)
    if expected not in status or label != "POSITIVE":
        sys.exit(f"{expected} and POSITIVE were expected")
EOF
    answered=$?
    kill -TERM $server
    wait $server && exit $answered
' "$command" "$check"
# shellcheck disable=SC2086
echo "the image was built, is healthy and answers: $(buildah $storage images --format '{{.Size}}' memoserve)"

#!/bin/sh
# Install the programs that tests use, where that can be done; elsewhere say what is missing.
set -eu

missing=""
command -v promtool >/dev/null || missing="$missing prometheus"
command -v redis-server >/dev/null || missing="$missing redis-server"
command -v curl >/dev/null || missing="$missing curl"
command -v wrk >/dev/null || missing="$missing wrk"
command -v node >/dev/null || missing="$missing nodejs"
command -v npm >/dev/null || missing="$missing npm"
command -v prometheus-redis-exporter >/dev/null || missing="$missing prometheus-redis-exporter"
command -v chromium >/dev/null || missing="$missing chromium"
command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || missing="$missing nginx-light"

if [ -z "$missing" ]; then
    :
elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing$missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086
    apt-get install -qq -y --no-install-recommends $missing >/dev/null
else
    echo "not installed, so that the tests which need it are skipped:$missing"
fi

# The public test suite for HTTP caches.
if command -v npm >/dev/null; then
    npm install --silent --no-fund --no-audit --no-package-lock --prefix "$(dirname "$0")/http_cache"
fi

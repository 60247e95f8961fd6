#!/bin/sh
# Install the servers that the tests and benchmarks start, Chromium, wrk, which puts load on web
# servers, openssl, which makes a certificate for one, and what builds drivers of MariaDB and what
# unpack_servers.sh needs, as far as this machine allows: as root, from Debian's packages. Else one
# line says what is missing. Nothing is started: the tests run the servers themselves.
set -eu

PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

missing() {
    command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 ||
        printf ' postgresql'
    command -v mariadbd >/dev/null || printf ' mariadb-server'
    ls /usr/lib/galera/libgalera_smm.so >/dev/null 2>&1 || printf ' galera-4'
    command -v rsync >/dev/null || printf ' rsync'
    command -v pgbouncer >/dev/null || printf ' pgbouncer'
    command -v redis-server >/dev/null || printf ' redis-server'
    command -v chromium >/dev/null || printf ' chromium'
    command -v wrk >/dev/null || printf ' wrk'
    command -v nginx >/dev/null || printf ' nginx-light'
    command -v openssl >/dev/null || printf ' openssl'
    command -v mariadb_config >/dev/null || printf ' libmariadb-dev'
    command -v pkg-config >/dev/null || printf ' pkg-config'
    command -v patchelf >/dev/null || printf ' patchelf'
}

packages=$(missing)
if [ -z "$packages" ]; then
    exit 0
fi

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "not installed:$packages; tests that need them will not run" >&2
    exit 0
fi

# Debian asks this file whether a package may start its service.
policy=/usr/sbin/policy-rc.d
log=$(mktemp)
if [ -e "$policy" ]; then
    trap 'rm -f "$log"' EXIT
else
    trap 'rm -f "$log" "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi

echo "installing:$packages"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of words
if ! { apt-get update && apt-get install -y --no-install-recommends $packages; } >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    exit 1
fi

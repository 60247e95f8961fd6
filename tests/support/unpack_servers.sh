#!/bin/bash
# Get servers and Pythons that are newer than this machine's: Debian's, from sid. They are unpacked
# into a folder outside the tree, where the tests find them, and nothing is installed. One line says
# what there is none of.
#
# The folder: PYRAMID_SQLSESSION_SERVERS, else one in the user's cache; root's servers are other users'
# processes, and root's own cache is hidden from them. Remove it to get newer ones.
set -Eeuo pipefail

PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
# MariaDB and MySQL cannot be installed together, and are not
PACKAGES=(
    "mysql-server-core"
    "galera-4 mariadb-server pgbouncer postgresql-18"
    "libpython3.14-dev libpython3.15-dev python3.14-venv python3.15-venv"
)
cache=${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}
[ "$(id -u)" != 0 ] || cache=/var/cache
ROOT=${PYRAMID_SQLSESSION_SERVERS:-$cache/pyramid_sqlsession/servers}

missing() {
    echo "no newer servers and Pythons ($1): tests that need them will not run" >&2
    exit 0
}

[ -e "$ROOT/complete" ] && exit 0

[ ! -e "$ROOT" ] || missing "$ROOT is a folder of something else"
for program in apt-get dpkg-deb patchelf; do
    command -v $program >/dev/null || missing "$program is not installed"
done
[ "$(dpkg --print-architecture)" = amd64 ] || missing "they are for amd64 only"
keys=/usr/share/keyrings/debian-archive-keyring.gpg
site=$(apt-get indextargets --format '$(SITE) $(RELEASE)' 'Created-By: Packages' |
    awk '$2 !~ /security/ && $1 ~ /debian/ && !site { site = $1 } END { print site }')
[ -e $keys ] && [ -n "$site" ] || missing "apt is not Debian's"

mkdir -p "$(dirname "$ROOT")" 2>/dev/null && [ -w "$(dirname "$ROOT")" ] ||
    missing "$(dirname "$ROOT") cannot be written"
# of two that begin at once one does it
exec 9>"$ROOT.lock"
flock 9
[ -e "$ROOT/complete" ] && exit 0

new=$ROOT.part
log=$(mktemp)
state=$(mktemp -d)
trap 'rm -rf "$log" "$state" "$new"' EXIT
trap 'missing "line $LINENO of $0 failed"' ERR
rm -rf "$new"
mkdir -p "$state"/{lists,archives}/partial
touch "$state/status"
echo "deb [signed-by=$keys] $site sid main" >"$state/sources.list"
# a state of its own: the machine's packages are neither asked nor changed
apt=(
    apt-get -qq
    -o "Dir::Etc::SourceList=$state/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State=$state" -o "Dir::State::status=$state/status" -o "Dir::Cache=$state"
    -o Acquire::Languages=none -o APT::Sandbox::User=root
)
"${apt[@]}" -o APT::Update::Error-Mode=any update >"$log" 2>&1 || missing "$(tail -n 1 "$log")"
echo "unpacking newer servers and Pythons into $ROOT ..."
for together in "${PACKAGES[@]}"; do
    # shellcheck disable=SC2086 # a list of words
    "${apt[@]}" install --yes --download-only --no-install-recommends $together >"$log" 2>&1 ||
        missing "$(tail -n 1 "$log")"
done
for package in "$state"/archives/*.deb; do
    dpkg-deb -x "$package" "$new"
done

# they need a newer libc than the machine's
libraries=$ROOT/usr/lib/x86_64-linux-gnu
for program in "$new"/usr/sbin/{mysqld,mariadbd,pgbouncer} "$new"/usr/lib/postgresql/*/bin/* \
    "$new"/usr/bin/{my_print_defaults,resolveip,mariadb,rsync,socat,python3.14,python3.15}; do
    if [ -e "$program" ] && patchelf --print-interpreter "$program" >/dev/null 2>&1; then
        patchelf --set-interpreter "$ROOT/usr/lib64/ld-linux-x86-64.so.2" \
            --force-rpath --set-rpath "$libraries" "$program"
    fi
done
# what may come into PATH: the rest of the folder's programs may not
mkdir "$new/pythons"
for version in 3.14 3.15; do
    ln -s "../usr/bin/python$version" "$new/pythons/"
    # drivers are built from source; its place is known to the compiler where it is installed
    (cd "$new/usr/include" && cp -r --parents "x86_64-linux-gnu/python$version" "python$version/")
done
touch "$new/complete"
mv "$new" "$ROOT"

#!/bin/sh
# Entry point of the image all-in-one: owns /config as PUID and PGID, drops all privileges, and runs the command.
# Started as an ordinary user (docker run --user), it keeps that user.
set -eu

data=${MEDIABUS_DATA_DIR:-/config}
uid=${PUID:-1000}
gid=${PGID:-1000}

fail() {
  echo "mediabus: $*" >&2
  exit 2
}

is_id() {
  case $1 in '' | *[!0-9]* | 0 | 0?* | ??????????*) return 1 ;; esac
}

case ${UMASK:=077} in
  *[!0-7]* | ?????*) fail "UMASK=$UMASK is not an octal mode such as 022" ;;
esac
if [ -n "${TZ:-}" ] && [ ! -f "/usr/share/zoneinfo/${TZ#:}" ]; then
  echo "mediabus: TZ=$TZ is not a time zone such as Europe/Berlin; times are in UTC" >&2
  export TZ=Etc/UTC
fi

if [ "$(id -u)" -ne 0 ]; then
  id -un >/dev/null 2>&1 || # PostgreSQL does not start as a user without a name
    fail "user $(id -u) does not exist in the image: set PUID=$(id -u) and PGID=$(id -g) instead of --user"
  mkdir -p "$data" && [ -w "$data" ] ||
    fail "$data is not writable for user $(id -u): change its owner on the host"
  umask "$UMASK"
  exec "$@"
fi

is_id "$uid" || fail "PUID=$uid is not the number of an ordinary user, such as 1000"
is_id "$gid" || fail "PGID=$gid is not the number of an ordinary group, such as 1000"
getent group "$gid" >/dev/null || groupadd --gid "$gid" "mediabus$gid" ||
  fail "cannot create the group $gid: use PGID=1000, or a writable root file system"
getent passwd "$uid" >/dev/null ||
  useradd --uid "$uid" --gid "$gid" --home-dir "$data" --no-create-home --shell /usr/sbin/nologin "mediabus$uid" ||
  fail "cannot create the user $uid: use PUID=1000, or a writable root file system"

mkdir -p "$data"
# Only what has another owner. Some file systems of a network refuse it, and may not need it.
find "$data" \( ! -user "$uid" -o ! -group "$gid" \) -exec chown -h "$uid:$gid" {} + ||
  echo "mediabus: cannot change the owner of all files in $data" >&2

as_user() {
  exec setpriv --reuid="$uid" --regid="$gid" --clear-groups --no-new-privs --inh-caps=-all "$@"
}
(as_user test -w "$data") || fail "$data is not writable for PUID=$uid: change its owner on the host"
export HOME="$data"
umask "$UMASK"
as_user "$@"

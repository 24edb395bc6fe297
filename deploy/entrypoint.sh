#!/bin/sh
# Runs the command as PUID and PGID, without privileges. Started as an ordinary user, it keeps that user.
set -eu
if [ "$(id -u)" -ne 0 ]; then
  exec "$@"
fi
exec setpriv --reuid="${PUID:-1000}" --regid="${PGID:-1000}" --clear-groups --no-new-privs \
  --inh-caps=-all "$@"

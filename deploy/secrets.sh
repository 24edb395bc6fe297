#!/bin/sh
# Makes the passwords that compose.yaml needs, in deploy/secrets, and keeps those that are there.
# The qBittorrent one is a placeholder: write your own into the file.
set -eu
cd "$(dirname "$0")"
mkdir -p secrets
chmod 700 secrets # nobody else on this machine gets in; the containers see the files alone
for name in nats_password database_password qbittorrent_password; do
  [ -s "secrets/$name" ] || od -An -N24 -tx1 /dev/urandom | tr -d ' \n' > "secrets/$name"
  chmod 644 "secrets/$name"
done
echo "secrets are in $(pwd)/secrets"

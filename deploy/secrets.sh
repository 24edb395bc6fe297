#!/bin/sh
# Creates the keys, certificates, roles and passwords that compose.yaml needs, in deploy/secrets.
# Existing ones are kept. Run it again to add those that a newer version needs.
# The passwords of qBittorrent and of the MQTT broker are placeholders: write your own into the files.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets # other users of this machine have no access; containers mount single files
for name in owner web qbittorrent mqtt; do
  [ -s "secrets/$name.password" ] || od -An -N24 -tx1 /dev/urandom | tr -d ' \n' > "secrets/$name.password"
done
[ -e secrets/local.conf ] || cat > secrets/local.conf <<'END'
# Your own settings for nats-server; they override those of nats.conf.
http: "127.0.0.1:8222" # only for the health check in the container
END
# Runs in the image, unless MEDIABUS_SECURE names another command that does the same.
${MEDIABUS_SECURE:-docker compose --file ../compose.yaml run --rm --build secure}
# The servers read these files as other users. The folder's mode keeps everyone else out.
chmod 644 secrets/*.conf secrets/*.pem secrets/server.key secrets/roles.sql secrets/owner.password
echo "secrets are in $(pwd)/secrets"

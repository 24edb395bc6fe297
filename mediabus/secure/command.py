"""`mediabus secure`: keys, certificates and roles, and a configuration of NATS that uses them."""

import json
import secrets
import socket
from pathlib import Path
from typing import Final

import click
import nkeys

from service.cli import certificates
from service.cli.database_roles import roles_with_passwords
from service.cli.help import examples
from service.cli.nats_roles import ROLES, user
from service.runtime.credentials import public_key_of
from service.runtime.private import write_private

CONFIG: Final = """\
# Made by `mediabus secure`, and anew whenever that is run again: what you change belongs elsewhere.
server_name: mediabus
port: 4222
max_payload: 8MB
write_deadline: "10s"

jetstream {{
  store_dir: {store}
  max_memory_store: 256MB
  # JetStream confirms what it has not yet synced to disk, by default for up to two minutes.
  sync_interval: always
}}

tls {{
  cert_file: {certificate}
  key_file: {key}
}}

authorization {{
  users: [
{users}  ]
}}
"""


@click.command(
    epilog=examples(
        "mediabus secure keys",
        "mediabus secure keys --host nats.example --host 192.168.1.5",
        "mediabus secure keys --at /etc/nats --store /data    for a container",
    )
)
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--host",
    "hosts",
    multiple=True,
    help="A name or address of the NATS server; without it, those of this machine.",
)
@click.option("--at", metavar="PATH", help="Where the NATS server finds DIR, if elsewhere.")
@click.option("--store", metavar="PATH", help="Where it stores; without it, DIR/jetstream.")
def secure(directory: Path, hosts: tuple[str, ...], at: str | None, store: str | None) -> None:
    """Make keys, certificates and roles in DIR, and a nats.conf that uses them.

    One key for each of service, monitor, persister, publisher and viewer, who may do what their
    work takes, over TLS. What is there already is kept; nats.conf is written anew.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _certify(directory, hosts or ("localhost", "127.0.0.1", "::1", socket.gethostname()))
    keys = {name: _public_key(directory / f"{name}.nk") for name in ROLES}
    _make_database_roles(directory)
    place = Path(at) if at else directory.resolve()
    text = CONFIG.format(
        store=json.dumps(store or str(place / "jetstream")),
        certificate=json.dumps(str(place / "server.pem")),
        key=json.dumps(str(place / "server.key")),
        users="".join(user(role, keys[name]) for name, role in ROLES.items()),
    )
    write_private(directory / "nats.conf", text)
    _say(directory)


def _certify(directory: Path, hosts: tuple[str, ...]) -> None:
    authority, authority_key = directory / "ca.pem", directory / "ca.key"
    if not authority_key.exists():
        _write_pair(authority, authority_key, certificates.authority())
        (directory / "server.key").unlink(missing_ok=True)
    certificate, key = directory / "server.pem", directory / "server.key"
    if not key.exists():
        made = certificates.server(hosts, authority.read_text(), authority_key.read_text())
        _write_pair(certificate, key, made)


def _write_pair(certificate: Path, key: Path, made: tuple[str, str]) -> None:
    write_private(certificate, made[0])
    write_private(key, made[1])


def _public_key(path: Path) -> str:
    """That of the seed in the file, which is made where there is none."""
    if not path.exists():
        seed = nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER)
        write_private(path, f"{seed.decode()}\n")
    return public_key_of(str(path))


def _make_database_roles(directory: Path) -> None:
    statements = directory / "roles.sql"
    if statements.exists():
        return
    text, passwords = roles_with_passwords()
    for name, password in passwords.items():
        write_private(directory / f"{name}.password", f"{password}\n")
    write_private(statements, text)


def _say(directory: Path) -> None:
    click.echo(
        f"""\
{directory} has keys, certificates and roles; it is for your eyes alone.

  nats-server --config {directory}/nats.conf
  psql --file={directory}/roles.sql "$URL" && mediabus migrate

Each process gets its own, here the service:

  MEDIABUS_NATS_TLS_CA={directory}/ca.pem
  MEDIABUS_NATS_NKEY_SEED_FILE={directory}/service.nk
  MEDIABUS_DATABASE_URL=postgresql://mediabus_operations_login@HOST/DATABASE
  MEDIABUS_DATABASE_PASSWORD_FILE={directory}/operations.password"""
    )

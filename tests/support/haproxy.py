"""haproxy in front of PostgreSQL, as docs/operations.md describes it."""

import contextlib
import socket
from collections.abc import Iterable
from pathlib import Path

from tests.support.ports import free_port
from tests.support.servers import HOST, Server, require_program

HAPROXY_CONF = """
global
    maxconn 1000
defaults
    mode tcp
    timeout connect 2s
    timeout check 1s
    timeout client 1h
    timeout server 1h
listen primary
    bind {host}:{port}
    option httpchk OPTIONS /primary
    http-check expect status 200
    default-server inter 500ms fall 2 rise 1 on-marked-down shutdown-sessions
{servers}
"""


class Haproxy(Server):
    """haproxy, which asks Patroni who is the primary and leads there.

    ``nodes`` are the name of each node, the port of its PostgreSQL and that of its Patroni.
    """

    def __init__(self, directory: Path, nodes: Iterable[tuple[str, int, int]]) -> None:
        super().__init__(directory, free_port())
        servers = "\n".join(
            f"    server {name} {HOST}:{port} check port {rest_port}"
            for name, port, rest_port in nodes
        )
        self._config = directory / "haproxy.cfg"
        self._config.write_text(HAPROXY_CONF.format(host=HOST, port=self.port, servers=servers))

    def command(self) -> list[str]:
        """Debian installs it where only root looks."""
        found = Path("/usr/sbin/haproxy")
        program = str(found) if found.exists() else require_program("haproxy")
        return [program, "-db", "-f", str(self._config)]

    def is_ready(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), 1.0):
            return True
        return False

"""nats-servers that are one cluster: each may die and come back."""

import contextlib
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from mediabus.schemas.subjects import (
    DEAD_LETTERS_STREAM,
    DOWNLOAD_STATUS_STREAM,
    EVENTS_STREAM,
    REPLAY_STREAM,
)
from tests.support.ports import free_port
from tests.support.servers import HOST, NatsServer

STREAMS = (EVENTS_STREAM, DEAD_LETTERS_STREAM, REPLAY_STREAM, DOWNLOAD_STATUS_STREAM)
ELECTED_WITHIN = 15.0
"""Seconds in which a stream has another leader. A follower waits for 4 to 9 before it asks for
votes: that is nats-server's own, and no setting."""

CLUSTER_CONF = """
server_name: "{name}"
http: "{host}:{http_port}"
cluster {{ name: test, listen: "{host}:{port}", routes: [{routes}] }}
"""


class NatsCluster:
    """Servers on loopback, by the names that JetStream calls them."""

    def __init__(self, directory: Path, size: int, config_extra: str = "") -> None:
        ports = {f"n{number}": free_port() for number in range(1, size + 1)}
        routes = ", ".join(f'"nats://{HOST}:{port}"' for port in ports.values())
        self.servers: dict[str, NatsServer] = {}
        self._http_ports: dict[str, int] = {}
        for name, port in ports.items():
            folder = directory / name
            folder.mkdir()
            http_port = self._http_ports[name] = free_port()
            extra = CLUSTER_CONF.format(
                name=name, host=HOST, port=port, http_port=http_port, routes=routes
            )
            self.servers[name] = NatsServer(folder, free_port(), extra + config_extra)

    @property
    def url(self) -> str:
        """All of them, as the settings take it."""
        return ",".join(server.url for server in self.servers.values())

    def connections(self) -> dict[str, int]:
        """Return the number of clients of each server that runs."""
        found = {}
        for server in self.servers:
            with contextlib.suppress(OSError):
                found[server] = int(self._monitor(server, "varz")["connections"])
        return found

    def leader(self) -> str | None:
        """Return the leader of JetStream itself, which creates streams and consumers.

        None while the running servers do not agree, as during an election.
        """
        named = set()
        for server in self.servers:
            with contextlib.suppress(OSError):
                named.add(self._jetstream(server)["meta_cluster"].get("leader"))
        return str(named.pop()) if len(named) == 1 and named != {None} else None

    def stream_leader(self, stream: str) -> str | None:
        """Who leads a stream. None during an election."""
        for server in self.servers:
            found = self._streams(server).get(stream, {}).get("cluster", {}).get("leader")
            if found:
                return str(found)
        return None

    def is_whole(self) -> bool:
        """Whether every server runs and keeps a copy of each stream that is not behind."""
        if self.leader() is None:
            return False
        led = [
            one["cluster"]
            for server in self.servers
            for one in self._streams(server).values()
            if one["cluster"].get("leader") == server
        ]
        copies = [copy for cluster in led for copy in cluster.get("replicas", [])]
        return (
            len(led) == len(STREAMS)
            and len(copies) == len(STREAMS) * (len(self.servers) - 1)
            and all(copy["current"] and not copy.get("offline") for copy in copies)
        )

    def _streams(self, server: str) -> dict[str, Any]:
        try:
            accounts = self._jetstream(server).get("account_details") or []
        except OSError:
            return {}
        return {
            one["name"]: one for account in accounts for one in account.get("stream_detail", [])
        }

    def _jetstream(self, server: str) -> Any:
        return self._monitor(server, "jsz?streams=true")

    def _monitor(self, server: str, page: str) -> Any:
        url = f"http://{HOST}:{self._http_ports[server]}/{page}"
        with urllib.request.urlopen(url, timeout=2) as answer:
            return msgspec.json.decode(answer.read())


@contextlib.contextmanager
def nats_cluster(directory: Path, size: int = 3, config_extra: str = "") -> Iterator[NatsCluster]:
    """A running cluster whose data is in ``directory``; ended on leaving."""
    cluster = NatsCluster(directory, size, config_extra)
    try:
        for server in cluster.servers.values():
            server.start()
        deadline = time.monotonic() + 30
        while cluster.leader() is None:
            assert time.monotonic() < deadline, "no leader within 30 s"
            time.sleep(0.05)
        yield cluster
    finally:
        for server in cluster.servers.values():
            server.stop()

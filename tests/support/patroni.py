"""PostgreSQL as Patroni runs it: a primary, a synchronous standby, etcd, and haproxy in front."""

import contextlib
import dataclasses
import os
import shutil
import signal
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil

from tests.support.haproxy import Haproxy
from tests.support.ports import free_port
from tests.support.servers import HOST, Server, require_program

ACCOUNT = "postgres"
"""The account that Debian's postgresql makes. PostgreSQL refuses to run as root."""
STARTS_WITHIN = 90.0
"""Seconds for a node to start. A new one makes a database or copies it, on a busy machine."""
NODES = ("pg1", "pg2")

PATRONI_CONF = """
scope: mediabus
name: {name}
restapi: {{listen: "{host}:{rest_port}", connect_address: "{host}:{rest_port}"}}
etcd3: {{host: "{host}:{etcd_port}"}}
bootstrap:
  dcs:
    ttl: {times.ttl}
    loop_wait: {times.loop_wait}
    retry_timeout: {times.retry_timeout}
    synchronous_mode: true
    postgresql:
      use_pg_rewind: true
      parameters: {{max_connections: 100, shared_buffers: 32MB, max_wal_size: 1GB, timezone: UTC}}
  initdb: [{{encoding: UTF8}}, {{locale: C}}, {{auth: trust}}]
  pg_hba: ["host all all {host}/32 trust", "host replication all {host}/32 trust"]
postgresql:
  listen: "{host}:{port}"
  connect_address: "{host}:{port}"
  data_dir: "{directory}/data"
  bin_dir: "{programs}"
  pgpass: "{directory}/pgpass"
  authentication:
    superuser: {{username: postgres}}
    replication: {{username: replicator}}
  parameters: {{unix_socket_directories: ""}}
  basebackup: [{{checkpoint: fast}}]
  remove_data_directory_on_rewind_failure: true
  remove_data_directory_on_diverged_timelines: true
watchdog: {{mode: "off"}}
"""


@dataclasses.dataclass(frozen=True)
class Times:
    """Patroni's times in seconds. The lease of a dead primary ends after ``ttl``.

    Patroni's own are 30, 10 and 10. The short ones keep its rule that ``ttl`` is at least
    ``loop_wait`` and twice ``retry_timeout``.
    """

    ttl: int = 7
    loop_wait: int = 1
    retry_timeout: int = 3


class Etcd(Server):
    """One etcd. It is not what the tests break; in production there are three."""

    def command(self) -> list[str]:
        url, peer = f"http://{HOST}:{self.port}", f"http://{HOST}:{free_port()}"
        return [
            *(require_program("etcd"), "--name", "e1", "--log-level", "error"),
            *("--data-dir", str(self.directory / "data")),
            *("--listen-client-urls", url, "--advertise-client-urls", url),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", f"e1={peer}"),
        ]

    def is_ready(self) -> bool:
        return (_get(self.port, "/health") or {}).get("health") == "true"


class Node(Server):
    """Patroni with its PostgreSQL."""

    def __init__(self, directory: Path, name: str, etcd_port: int, times: Times) -> None:
        super().__init__(directory, free_port())
        self.name = name
        self.rest_port = free_port()
        self._config = directory / "patroni.yml"
        self._config.write_text(
            PATRONI_CONF.format(
                name=name,
                host=HOST,
                port=self.port,
                rest_port=self.rest_port,
                etcd_port=etcd_port,
                directory=directory,
                times=times,
                programs=_programs(),
            )
        )
        if user := self.user():
            shutil.chown(directory, user)

    def command(self) -> list[str]:
        home = f"HOME={self.directory}"  # libpq looks into the home of the account
        return ["env", "--unset=PYTHONPATH", home, require_program("patroni"), str(self._config)]

    def user(self) -> str | None:
        return ACCOUNT if os.geteuid() == 0 else None

    def is_ready(self) -> bool:
        time.sleep(0.25)  # each question costs Patroni some milliseconds
        return _get(self.rest_port, "/health") is not None

    @property
    def is_primary(self) -> bool:
        """Whether Patroni reports it as the primary, as haproxy asks."""
        return _get(self.rest_port, "/primary") is not None

    def members(self) -> dict[str, dict[str, Any]]:
        """What this node knows of all nodes, by name; empty if it does not answer."""
        found = _get(self.rest_port, "/cluster") or {}
        return {member["name"]: member for member in found.get("members", [])}

    def kill_patroni(self) -> None:
        """Kill Patroni alone: PostgreSQL goes on as a primary that nothing watches."""
        self._end(signal.SIGKILL)

    def suspend(self) -> None:
        """Stop Patroni and PostgreSQL (SIGSTOP), as a machine that hangs."""
        for process in self._suspended():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def resume(self) -> None:
        """Continue what ``suspend`` stopped."""
        for process in self._suspended():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def _suspended(self) -> list[psutil.Process]:
        """All processes of the node. Those that start others are stopped."""
        family = _suspended(self._process.pid if self._process else None)
        return family + _suspended(self._postmaster())

    def kill(self) -> None:
        """Kill Patroni, PostgreSQL and all of its processes, as a crash of the machine would."""
        family = self._suspended()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._end(signal.SIGKILL)
        _, alive = psutil.wait_procs(family, timeout=15)
        left = [one for one in alive if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
        assert not left, f"still running: {left}"

    def stop(self) -> None:
        """End it without a clean shutdown: its data is removed afterwards."""
        self.kill()

    def _postmaster(self) -> int | None:
        """The process id of PostgreSQL, which is not a child of Patroni."""
        data = self.directory / "data"
        with contextlib.suppress(OSError, ValueError, IndexError, psutil.Error):
            pid = int((data / "postmaster.pid").read_text().splitlines()[0])
            return pid if str(data) in " ".join(psutil.Process(pid).cmdline()) else None
        return None


class PatroniCluster:
    """Two nodes of PostgreSQL. ``url`` leads to the primary, through haproxy."""

    def __init__(self, directory: Path, times: Times) -> None:
        self.etcd = Etcd(_created(directory / "etcd"), free_port())
        self.nodes = {
            name: Node(_created(directory / name), name, self.etcd.port, times) for name in NODES
        }
        places = [(node.name, node.port, node.rest_port) for node in self.nodes.values()]
        self.haproxy = Haproxy(_created(directory / "haproxy"), places)
        self.url = self.url_of("postgres")

    def url_of(self, database: str) -> str:
        return f"postgresql://postgres@{HOST}:{self.haproxy.port}/{database}"

    @property
    def servers(self) -> list[Server]:
        """All servers, in the order in which they start."""
        return [self.etcd, *self.nodes.values(), self.haproxy]

    def primary(self) -> Node | None:
        """Return the node that haproxy leads to. None during a failover."""
        found = [node for node in self.nodes.values() if node.is_primary]
        return found[0] if len(found) == 1 else None

    def is_whole(self) -> bool:
        """Whether the primary has a synchronous standby, so that it may die."""
        primary = self.primary()
        if primary is None:
            return False
        members = primary.members()
        roles = {member["role"] for member in members.values()}
        return (
            len(members) == len(self.nodes)
            and roles == {"leader", "sync_standby"}
            and len({member.get("timeline") for member in members.values()}) == 1
        )


@contextlib.contextmanager
def patroni_cluster(times: Times | None = None) -> Iterator[PatroniCluster]:
    """A running cluster with a synchronous standby; ended on leaving."""
    with tempfile.TemporaryDirectory(prefix="mediabus-patroni-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        cluster = PatroniCluster(directory, times or Times())
        try:
            for server in cluster.servers:
                server.start(within=STARTS_WITHIN)
            deadline = time.monotonic() + STARTS_WITHIN
            while not cluster.is_whole():
                assert time.monotonic() < deadline, "there is no synchronous standby"
                time.sleep(0.1)
            yield cluster
        finally:
            for server in reversed(cluster.servers):
                server.stop()


def _suspended(pid: int | None) -> list[psutil.Process]:
    """A process and its descendants, which can start no more of them."""
    if pid is None:
        return []
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        process.suspend()
        return [process, *process.children(recursive=True)]
    return []


def _programs() -> Path:
    """Where Debian keeps the programs of its newest PostgreSQL."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parts[-2]))
    return found[-1] if found else Path(require_program("pg_ctl")).resolve().parent


def _created(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _get(port: int, path: str) -> Any:
    """The answer of a server with status 200; None without one."""
    with (
        contextlib.suppress(OSError, msgspec.DecodeError),  # a status of an error is an OSError
        urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=2) as answer,
    ):
        return msgspec.json.decode(answer.read())
    return None

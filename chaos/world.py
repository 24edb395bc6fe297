"""A complete mediabus to inject faults into.

Two servers, five processes, and a network link from each process to each server.
"""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from chaos import disks
from chaos.disks import Disk
from chaos.network import Link
from chaos.units import Unit
from mediabus.runtime.postgres.database import open_pool
from mediabus.runtime.postgres.schema import migrate
from mediabus.runtime.settings import DatabaseSettings, Settings
from mediabus.service.clients import AnyClientSettings
from tests.support.library import with_clients
from tests.support.ports import free_port
from tests.support.processes import clients_toml
from tests.support.servers import NatsServer, PostgresServer

NATS: Final = "nats"
POSTGRES: Final = "postgres"
PROCESSES: Final[Mapping[str, str]] = {
    "service 1": "service",
    "service 2": "service",
    "monitor": "monitor",
    "persister 1": "persist",
    "persister 2": "persist",
}
"""Commands of ``mediabus`` by name of the process."""

LINKS: Final = [f"{name} - {server}" for name in PROCESSES for server in (NATS, POSTGRES)]

RUN: Final = "from mediabus.main import main; main()"
KEEP_EVERY: Final = 0.5
"""Seconds between two checks whether a program ended unexpectedly."""

NATS_CONF: Final = 'write_deadline: "10s"'
POSTGRES_CONF: Final = """
fsync = on
full_page_writes = on
max_wal_size = '128MB'
min_wal_size = '32MB'
restart_after_crash = on
"""
MEGABYTES: Final = {NATS: 768, POSTGRES: 1536}
"""Size of the disk of each server."""


class World:
    """The programs of a mediabus and the network between them.

    ``units`` and ``links`` are by name. ``disks`` are those of the servers, and empty if the
    machine does not allow mounts. ``nats_url`` and ``database_url`` bypass the links.
    """

    def __init__(
        self,
        folder: Path,
        server_disks: dict[str, Disk],
        clients: Sequence[AnyClientSettings] = (),
    ) -> None:
        self.folder = folder
        self._settings = folder / "mediabus.toml"
        self._settings.write_text(clients_toml(with_clients(Settings(), *clients)))
        self.disks = server_disks
        self._nats = NatsServer(_created(folder / NATS), free_port(), NATS_CONF)
        self._postgres = PostgresServer(_created(folder / POSTGRES), free_port(), POSTGRES_CONF)
        self.nats_url, self.database_url = self._nats.url, self._postgres.url
        self.jetstream = folder / NATS / "store"
        ports = {NATS: self._nats.port, POSTGRES: self._postgres.port}
        self.links = {name: Link(ports[name.rpartition(" ")[2]]) for name in LINKS}
        self.units = {
            NATS: Unit(NATS, self._nats.command(), folder / "nats.log"),
            POSTGRES: Unit(
                POSTGRES,
                self._postgres.command(),
                folder / "postgres.log",
                user=self._postgres.user(),
                stop_signal=signal.SIGINT,  # fast shutdown; SIGTERM waits for clients
            ),
            **{name: self._process(name, command) for name, command in PROCESSES.items()},
        }

    def _process(self, name: str, command: str) -> Unit:
        nats, postgres = self.links[f"{name} - {NATS}"], self.links[f"{name} - {POSTGRES}"]
        environment = {
            "MEDIABUS_CONFIG": str(self._settings),
            "MEDIABUS_NATS_URL": f"nats://127.0.0.1:{nats.port}",
            "MEDIABUS_DATABASE_URL": f"postgresql://postgres@127.0.0.1:{postgres.port}/postgres",
            "MEDIABUS_HTTP_PORT": "0",
            "MEDIABUS_LOG_FORMAT": "json",
        }
        log = self.folder / f"{name.replace(' ', '-')}.log"
        return Unit(name, [sys.executable, "-c", RUN, command], log, environment=environment)

    def relaying(self) -> Unit:
        """Return the service whose relay holds the lease; either if none or both claim it."""
        services = [self.units[name] for name in ("service 1", "service 2")]
        return max(services, key=lambda unit: _last_lease_message(unit) == b'"lease acquired"')

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start everything and keep it running; kill it on exit."""
        async with contextlib.AsyncExitStack() as stack:
            for unit in self.units.values():
                stack.callback(unit.kill)
            for link in self.links.values():
                await stack.enter_async_context(link.working())
            self.units[POSTGRES].start()
            self.units[NATS].start()
            async with open_pool(DatabaseSettings(url=self.database_url), size=2) as pool:
                await migrate(pool)
            for name in PROCESSES:
                self.units[name].start()
            keeping = asyncio.create_task(self._keep(), name="keeper")
            try:
                yield
            finally:
                keeping.cancel()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(KEEP_EVERY)
            for unit in self.units.values():
                if unit.keep():
                    moment = time.strftime("%H:%M:%S")
                    print(f"  {moment} ended unexpectedly: {unit.endings[-1]}", flush=True)


def _created(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def _last_lease_message(unit: Unit) -> bytes:
    """Return the last log message about the lease if it was acquired; empty otherwise."""
    message = b""
    for line in unit.log_since_start().splitlines():
        if b'"lease": "relay"' in line or b'"lease":"relay"' in line:
            message = b'"lease acquired"' if b'"lease acquired"' in line else b""
    return message


@contextlib.contextmanager
def server_disks(folder: Path) -> Iterator[dict[str, Disk]]:
    """Mount a disk for each server; none if the machine does not allow mounts."""
    with contextlib.ExitStack() as stack:
        if disks.is_possible(folder / "probe") is None:
            yield {
                server: stack.enter_context(disks.mounted(folder / server, megabytes))
                for server, megabytes in MEGABYTES.items()
            }
        else:
            yield {}

"""Servers and processes of a test's own, to kill."""

from pathlib import Path

import msgspec

from mediabus.runtime.postgres.database import open_pool
from mediabus.runtime.postgres.schema import migrate
from mediabus.runtime.settings import DatabaseSettings, Settings, WebSettings
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.servers import NatsServer, PostgresServer


class Away:
    """nats-server, PostgreSQL, and the processes `service`, `persist` and `web`."""

    def __init__(self, settings: Settings, nats: NatsServer, directory: Path) -> None:
        self.nats = nats
        folder = directory / "own-postgres"
        folder.mkdir()
        self.postgres = PostgresServer(folder, free_port())
        self.postgres.start()
        self.settings = msgspec.structs.replace(
            settings,
            database=DatabaseSettings(url=self.postgres.url, pool_size=3),
            web=WebSettings(auth="none"),
        )
        self.web = Process("web", self.settings, directory)
        self.processes = [
            Process("service", self.settings, directory),
            Process("persist", self.settings, directory),
            self.web,
        ]

    async def start(self) -> None:
        async with open_pool(self.settings.database, size=2) as pool:
            await migrate(pool)
        for process in self.processes:
            process.start()
        await eventually(self.is_ready, within=40)

    def is_ready(self) -> bool:
        return all(process.is_ready for process in self.processes)

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
        self.postgres.stop()

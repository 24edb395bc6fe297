"""A NATS server as `mediabus secure` sets it up, and connections to it in each role."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec
import pytest

from mediabus.runtime.settings import NatsSettings, Settings
from mediabus.wiring.parts import parts_of, working
from mediabus.wiring.registry import Process
from tests.support.commands import PROGRAM, environment
from tests.support.ports import free_port
from tests.support.servers import HOST, NatsServer

NAMED = ("--user", "42", "--user", "7", "--program", "hook", "--viewer", "tv", "--consumer", "mine")
"""A key of each kind that has a name."""


class SecuredNats(NatsServer):
    """nats-server with the generated configuration, on a port of its own."""

    def __init__(self, directory: Path, keys: Sequence[str]) -> None:
        super().__init__(directory, free_port())
        self.keys = directory / "keys"
        self.secure("--host", HOST, "--host", "localhost", *keys)

    def secure(self, *options: str) -> None:
        """Run `mediabus secure` on its folder."""
        made = [*PROGRAM, "secure", str(self.keys), *options]
        subprocess.run(made, check=True, env=environment(), stdout=subprocess.DEVNULL)

    def command(self) -> list[str]:
        program = str(Path(sys.executable).with_name("nats-server"))
        return [program, "-c", str(self.keys / "nats.conf"), "-a", HOST, "-p", str(self.port)]

    def reload(self) -> None:
        """Have the server read its configuration again."""
        os.kill(self.pid, signal.SIGHUP)

    def settings(self, role: str) -> NatsSettings:
        """How a role connects."""
        return NatsSettings(
            url=self.url,
            nkey_seed_file=str(self.keys / f"{role}.nk"),
            tls_ca=str(self.keys / "ca.pem"),
        )

    def variables(self, role: str) -> dict[str, str]:
        """The same for a process."""
        settings = self.settings(role)
        return {
            "MEDIABUS_NATS_URL": self.url,
            "MEDIABUS_NATS_NKEY_SEED_FILE": settings.nkey_seed_file or "",
            "MEDIABUS_NATS_TLS_CA": settings.tls_ca or "",
        }


@contextmanager
def secured_nats(directory: Path, keys: Sequence[str] = NAMED) -> Iterator[SecuredNats]:
    """It runs until the end of the block."""
    server = SecuredNats(directory, keys)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def nats_errors(caplog: pytest.LogCaptureFixture) -> str:
    """Return what the NATS connections logged as errors of the server."""
    return "\n".join(str(getattr(record, "error", "")) for record in caplog.records)


@asynccontextmanager
async def running(
    server: SecuredNats, settings: Settings, processes: Sequence[Process]
) -> AsyncIterator[None]:
    """Run each process with its own key, all at once: those without rights wait for the streams."""

    async def run(process: Process) -> None:
        own = msgspec.structs.replace(settings, nats=server.settings(process.key))
        async with working(own, 0, parts_of(own, (process,))) as work:
            await work

    async with asyncio.TaskGroup() as tasks:
        started = [tasks.create_task(run(process)) for process in processes]
        yield
        for task in started:
            task.cancel()

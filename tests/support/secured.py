"""A NATS server as `mediabus secure` sets it up, and connections to it in each role."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.runtime.settings import NatsSettings
from tests.support.commands import PROGRAM, environment
from tests.support.ports import free_port
from tests.support.servers import HOST, NatsServer


class SecuredNats(NatsServer):
    """nats-server with the generated configuration, on a port of its own."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, free_port())
        self.keys = directory / "keys"
        made = [*PROGRAM, "secure", str(self.keys), "--host", HOST, "--host", "localhost"]
        subprocess.run(made, check=True, env=environment(), stdout=subprocess.DEVNULL)

    def command(self) -> list[str]:
        program = str(Path(sys.executable).with_name("nats-server"))
        return [program, "-c", str(self.keys / "nats.conf"), "-a", HOST, "-p", str(self.port)]

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
def secured_nats(directory: Path) -> Iterator[SecuredNats]:
    """It runs until the end of the block."""
    server = SecuredNats(directory)
    try:
        server.start()
        yield server
    finally:
        server.stop()

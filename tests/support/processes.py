"""The processes of mediabus as an operator runs them: started, killed, started again."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from mediabus.runtime.settings import Settings
from tests.support.ports import free_port

HOST = "127.0.0.1"
READY_WITHIN = 90.0
"""Seconds that processes have to become ready. Many start at once on a loaded machine."""
RUN = "from mediabus.main import main; main()"

Name = Literal["service", "monitor", "persist", "web", "notify", "up"]


class Process:
    """`mediabus service`, `monitor` or another process, on a separate health port.

    ``variables`` are added to its environment.
    """

    def __init__(self, name: Name, settings: Settings, directory: Path, **variables: str) -> None:
        self.name = name
        self.port = free_port()
        self.log = directory / f"{name}-{self.port}.log"
        self._config = directory / f"{name}-{self.port}.toml"
        self._config.write_text(clients_toml(settings))
        self._environment = {
            **{name: value for name, value in os.environ.items() if "MEDIABUS" not in name},
            "MEDIABUS_CONFIG": str(self._config),
            "MEDIABUS_NATS_URL": settings.nats.url or "",
            "MEDIABUS_NATS_REPLICAS": str(settings.nats.replicas),
            "MEDIABUS_DATABASE_URL": settings.database.url or "",
            "MEDIABUS_HTTP_PORT": str(self.port),
            "MEDIABUS_DATA_DIR": str(directory / "data"),
            "MEDIABUS_WEB_AUTH": settings.web.auth,
            "MEDIABUS_LOG_FORMAT": "json",
            "MEDIABUS_DOWNLOADS_ALLOWED_HOSTS": ",".join(
                settings.downloads.allowed_hosts or ["::1"]
            ),
            **login_variables(settings),
            **({"MEDIABUS_INGEST_TOKEN": token} if (token := settings.ingest.token) else {}),
            "MEDIABUS_NOTIFIER_ALLOWED_HOSTS": ",".join(settings.notifier.allowed_hosts or ["::1"]),
            "MEDIABUS_MONITOR_UNREACHABLE_AFTER": str(settings.monitor.unreachable_after),
            **variables,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._said_before = 0

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def start(self) -> None:
        """Start it without waiting; see ``wait_until_ready``."""
        self._said_before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", RUN, self.name],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
            )

    @property
    def is_ready(self) -> bool:
        """Return whether ``/readyz`` is 200. Fails if the process has ended."""
        assert self._process
        words = self.log.read_text(errors="replace")[-2000:]
        assert self._process.poll() is None, f"{self.name} ended by itself; it says: {words}"
        connection = http.client.HTTPConnection(HOST, self.port, timeout=2)
        with (
            contextlib.closing(connection),
            contextlib.suppress(OSError, http.client.HTTPException),
        ):
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        return False

    def says(self, event: str, **more: str) -> bool:
        """Return whether its log has such a line since its last start."""
        return bool(self.lines(event, **more))

    def lines(self, event: str, **more: str) -> list[dict[str, Any]]:
        """Return such lines of its log since its last start."""
        found = []
        for line in self.log.read_bytes()[self._said_before :].splitlines():
            with contextlib.suppress(msgspec.DecodeError):
                said = msgspec.json.decode(line)
                if said == {**said, "event": event, **more}:
                    found.append(said)
        return found

    def edit(self, text: str) -> None:
        """Replace its settings file as editors do, by a rename."""
        half = self._config.with_suffix(".new")
        half.write_text(text, encoding="utf-8")
        half.replace(self._config)

    def hang_up(self) -> None:
        """Send SIGHUP."""
        os.kill(self.pid, signal.SIGHUP)

    def pause(self) -> None:
        """Stop it (SIGSTOP) until ``resume``."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Continue it (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def stop(self) -> int:
        """Send SIGTERM and return the exit code. Kill it after 15 s."""
        assert self._process
        self._process.terminate()
        try:
            return self._process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


def login_variables(settings: Settings) -> dict[str, str]:
    """How the process logs in to a server that `mediabus secure` has set up."""
    found = {
        "MEDIABUS_NATS_NKEY_SEED_FILE": settings.nats.nkey_seed_file,
        "MEDIABUS_NATS_TLS_CA": settings.nats.tls_ca,
    }
    return {name: value for name, value in found.items() if value}


def clients_toml(settings: Settings) -> str:
    """The clients, applications and targets as TOML: what no variable can say."""
    lines = []
    named = (("clients", settings.clients), ("apps", settings.apps), ("notify", settings.notify))
    for name, tables in named:
        for table in tables:
            lines.append(f"[[{name}]]")
            lines += [
                f"{key} = {msgspec.json.encode(value).decode()}"
                for key, value in table.items()
                if value is not None
            ]
    return "\n".join(lines)


@contextlib.contextmanager
def processes(settings: Settings, directory: Path, *names: Name) -> Iterator[list[Process]]:
    """Processes at work, all of them ready; killed on leaving."""
    started = [Process(name, settings, directory) for name in names]
    try:
        for process in started:
            process.start()
        deadline = time.monotonic() + READY_WITHIN
        while not all(process.is_ready for process in started):
            assert time.monotonic() < deadline, f"{names} are not ready within {READY_WITHIN:g} s"
            time.sleep(0.05)
        yield started
    finally:
        for process in started:
            process.kill()

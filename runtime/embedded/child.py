"""Run a server as a child process: start it, restart it when it dies, stop it at the end."""

import asyncio
import contextlib
import dataclasses
import functools
import logging
import os
import pwd
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import BinaryIO, Final, TypedDict

log: Final = logging.getLogger("mediabus.embedded")

START_TIMEOUT: Final = 120.0
"""Seconds for a server to start. Recovering a large store after a power failure is slow."""

RESTART_DELAY: Final = 0.5
CHECK_EVERY: Final = 5.0
"""Seconds between two checks whether a server is stuck."""

POLL: Final = 0.02


class ServerFailed(Exception):
    """A server from a wheel does not run. The message has the end of its log and the log's path."""


async def _at_once(_: int) -> bool:
    return True


async def _nothing() -> None:
    """Prepare nothing."""


async def _never() -> bool:
    return False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """A program to run.

    ``prepare`` is awaited before each start. ``is_ready`` is polled with the pid during the start.
    ``is_stuck`` is polled while the program runs; a stuck program is restarted. ``stop_signals``
    end it, from graceful to final, each with a timeout in seconds. ``user`` is the user to run it
    as, if this process is root. ``stdin`` is what it reads from standard input: secrets there do
    not appear in the process list.
    """

    name: str
    command: tuple[str, ...]
    log_file: Path
    prepare: Callable[[], Awaitable[None]] = _nothing
    is_ready: Callable[[int], Awaitable[bool]] = _at_once
    is_stuck: Callable[[], Awaitable[bool]] = _never
    stop_signals: tuple[tuple[signal.Signals, float], ...] = (
        (signal.SIGTERM, 5.0),
        (signal.SIGKILL, 5.0),
    )
    user: int | None = None
    stdin: bytes = b""
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Default environment variables. Those of this process override them."""


@contextlib.asynccontextmanager
async def kept_running(program: Program) -> AsyncIterator[None]:
    """Run a server while open. Raises ServerFailed if it does not start."""
    _keep_last_log(program.log_file)
    running = _Running(await start(program))
    keeper = asyncio.create_task(_keep(program, running), name=f"keeper of {program.name}")
    try:
        yield
    finally:
        try:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper
        finally:
            await _stop(program, running.process)


@dataclasses.dataclass
class _Running:
    process: "subprocess.Popen[bytes]"


async def run(program: Program) -> None:
    """Run a program to its end. Raises ServerFailed if its exit code is not 0."""
    process = _spawn(program)
    try:
        await _ended(process, look_every=POLL)
    finally:
        await _stop(program, process)
    if process.returncode:
        raise ServerFailed(_last_words(program, f"ended with {process.returncode}"))


async def start(program: Program) -> "subprocess.Popen[bytes]":
    """Start a server and wait until it is ready. Raises ServerFailed."""
    await program.prepare()
    process = _spawn(program)
    try:
        async with asyncio.timeout(START_TIMEOUT):
            while process.poll() is None and not await program.is_ready(process.pid):  # noqa: ASYNC110
                await asyncio.sleep(POLL)
    except TimeoutError as error:
        await _stop(program, process)
        late = f"was not ready after {START_TIMEOUT:g} s"
        raise ServerFailed(_last_words(program, late)) from error
    except BaseException:
        await _stop(program, process)
        raise
    if process.returncode is not None:
        raise ServerFailed(_last_words(program, f"ended with {process.returncode}"))
    return process


async def _keep(program: Program, running: _Running) -> None:
    while True:
        if await _gone(running.process, CHECK_EVERY, look_every=0.2):
            code = running.process.returncode
            log.error("server died, restarting", extra={"server": program.name, "code": code})
        elif await program.is_stuck():
            log.error("server is stuck, restarting", extra={"server": program.name})
            await _stop(program, running.process)
        else:
            continue
        running.process = await _start_again(program)


async def _start_again(program: Program) -> "subprocess.Popen[bytes]":
    while True:
        try:
            process = await start(program)
        except (ServerFailed, OSError) as error:
            extra = {"server": program.name, "reason": str(error)}
            log.error("server does not start, will retry", extra=extra)
            await asyncio.sleep(RESTART_DELAY)
        else:
            log.info("server restarted", extra={"server": program.name})
            return process


def _spawn(program: Program) -> "subprocess.Popen[bytes]":
    """Start a program in a session of its own, so that Ctrl-C does not reach it.

    The event loop's thread starts it: the kernel signals a child when its parent thread dies.
    """
    program.log_file.parent.mkdir(mode=0o700, exist_ok=True)
    with _log_of(program) as output:
        process = subprocess.Popen(  # noqa: S603 - the wheels' own programs
            [*_dies_with_us(program), *program.command],
            stdin=subprocess.PIPE if program.stdin else subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env={**program.environment, **_inherited()},
            start_new_session=True,
            **as_user(program.user),
        )
    if process.stdin:
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(program.stdin)
    return process


def _log_of(program: Program) -> BinaryIO:
    """Open the log to append to. Follows no symlink: root must not write to another file."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    try:
        return os.fdopen(os.open(program.log_file, flags, 0o600), "ab")
    except OSError as error:
        why = f"{program.name} cannot log to {program.log_file}: {error.strerror}"
        raise ServerFailed(why) from error


def _inherited() -> dict[str, str]:
    """Return the environment without variables such as PGPORT and PGDATA.

    The PostgreSQL server would take settings from them.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


class Identity(TypedDict, total=False):
    """Arguments of subprocess to run a program as another user."""

    user: int
    group: int
    extra_groups: list[int]


def as_user(user: int | None) -> Identity:
    """Return the arguments to run a program as a user, with only that user's own group."""
    if user is None:
        return {}
    try:
        group = pwd.getpwuid(user).pw_gid
    except KeyError:  # the owner of a volume may have no name in this container
        group = user
    return {"user": user, "group": group, "extra_groups": []}


def _dies_with_us(program: Program) -> tuple[str, ...]:
    """Return a command prefix that ends the server when this process is killed.

    It needs util-linux. Without it, the next start ends the server.
    """
    signal_name = program.stop_signals[0][0].name.removeprefix("SIG")
    return ("setpriv", "--pdeathsig", signal_name, "--") if _has_setpriv() else ()


@functools.cache
def _has_setpriv() -> bool:
    """Return whether setpriv supports the option. BusyBox's does not."""
    command = ["setpriv", "--pdeathsig", "TERM", "--", "true"]
    with contextlib.suppress(OSError):
        return not subprocess.run(command, check=False, capture_output=True).returncode  # noqa: S603 - no input in it
    return False


async def _stop(program: Program, process: "subprocess.Popen[bytes]") -> None:
    try:
        for number, seconds in program.stop_signals:
            process.send_signal(number)
            if await _gone(process, seconds):
                return
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


async def _gone(
    process: "subprocess.Popen[bytes]", within: float, *, look_every: float = POLL
) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within):
            await _ended(process, look_every=look_every)
    return process.poll() is not None


async def _ended(process: "subprocess.Popen[bytes]", *, look_every: float) -> None:
    while process.poll() is None:  # noqa: ASYNC110 - uvloop cannot watch another user's child
        await asyncio.sleep(look_every)


def _keep_last_log(path: Path) -> None:
    """Rotate the log and keep the last one, so that logs do not grow without limit."""
    if path.exists():
        path.replace(path.with_name(f"{path.name}.1"))


def _last_words(program: Program, what: str) -> str:
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = program.log_file.read_text(errors="replace").splitlines()[-5:]
    tail = "\n  ".join(lines) or "(empty)"
    return f"{program.name} {what}. End of its log:\n  {tail}\n(full log: {program.log_file})"

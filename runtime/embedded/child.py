"""A server as a child process: started, awaited, started again when it dies, and taken along."""

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
from typing import Final, TypedDict

log: Final = logging.getLogger("mediabus.embedded")

READY_WITHIN: Final = 120.0
"""Seconds for a server to start; reading a large store back after a power cut takes its time."""

START_AGAIN_AFTER: Final = 0.5
POLL: Final = 0.02


class ServerFailed(Exception):
    """A server from a wheel does not run; the message has its last words and where to read more."""


async def _at_once(_: int) -> bool:
    return True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """What to run. ``is_ready`` is asked with its pid. ``leave_by`` are the signals that end
    it, from polite to final, each with its seconds. ``user`` is whom root runs it as. ``told`` is
    what it reads from standard input: a few lines, where no process list shows them."""

    name: str
    command: tuple[str, ...]
    log_file: Path
    is_ready: Callable[[int], Awaitable[bool]] = _at_once
    leave_by: tuple[tuple[signal.Signals, float], ...] = (
        (signal.SIGTERM, 5.0),
        (signal.SIGKILL, 5.0),
    )
    user: int | None = None
    told: bytes = b""
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Variables for it, where we have no such ones ourselves."""


@contextlib.asynccontextmanager
async def kept_running(program: Program) -> AsyncIterator[None]:
    """The server, from being ready until it has left. Raises ServerFailed if it does not start."""
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
    """Runs it to its end. Raises ServerFailed if that is not 0."""
    process = _spawn(program)
    try:
        await _ended(process, look_every=POLL)
    finally:
        await _stop(program, process)
    if process.returncode:
        raise ServerFailed(_last_words(program, f"ended with {process.returncode}"))


async def start(program: Program) -> "subprocess.Popen[bytes]":
    """The server, ready. Raises ServerFailed."""
    process = _spawn(program)
    try:
        async with asyncio.timeout(READY_WITHIN):
            while process.poll() is None and not await program.is_ready(process.pid):  # noqa: ASYNC110
                await asyncio.sleep(POLL)
    except TimeoutError as error:
        await _stop(program, process)
        late = f"was not ready after {READY_WITHIN:g} s"
        raise ServerFailed(_last_words(program, late)) from error
    except BaseException:
        await _stop(program, process)
        raise
    if process.returncode is not None:
        raise ServerFailed(_last_words(program, f"ended with {process.returncode}"))
    return process


async def _keep(program: Program, running: _Running) -> None:
    while True:
        await _ended(running.process, look_every=0.2)
        code = running.process.returncode
        log.error("%s died: starting it again", program.name, extra={"code": code})
        running.process = await _start_again(program)


async def _start_again(program: Program) -> "subprocess.Popen[bytes]":
    while True:
        try:
            process = await start(program)
        except (ServerFailed, OSError) as error:
            log.error("%s does not start: trying on", program.name, extra={"reason": str(error)})
            await asyncio.sleep(START_AGAIN_AFTER)
        else:
            log.info("%s is back", program.name)
            return process


def _spawn(program: Program) -> "subprocess.Popen[bytes]":
    """Starts it in a session of its own, so that Ctrl-C reaches us alone and we end it last. It is
    started by the loop's thread: that thread's death is what the kernel tells it about."""
    program.log_file.parent.mkdir(mode=0o700, exist_ok=True)
    with program.log_file.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - the wheels' own programs
            [*_dies_with_us(program), *program.command],
            stdin=subprocess.PIPE if program.told else subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env={**program.environment, **os.environ},
            start_new_session=True,
            **_as_user(program.user),
        )
    if process.stdin:
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(program.told)
    return process


class _Identity(TypedDict, total=False):
    """What subprocess takes to run a program as someone else."""

    user: int
    group: int
    extra_groups: list[int]


def _as_user(user: int | None) -> _Identity:
    """Runs a program as that user, with its group alone; None changes nothing."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwuid(user).pw_gid, "extra_groups": []}


def _dies_with_us(program: Program) -> tuple[str, ...]:
    """Where util-linux is at hand, kill -9 of this process ends its servers too. Elsewhere the next
    start ends them."""
    signal_name = program.leave_by[0][0].name.removeprefix("SIG")
    return ("setpriv", "--pdeathsig", signal_name, "--") if _has_setpriv() else ()


@functools.cache
def _has_setpriv() -> bool:
    """Whether there is one that knows the option; BusyBox has one that does not."""
    command = ["setpriv", "--pdeathsig", "TERM", "--", "true"]
    with contextlib.suppress(OSError):
        return not subprocess.run(command, check=False, capture_output=True).returncode  # noqa: S603 - no input in it
    return False


async def _stop(program: Program, process: "subprocess.Popen[bytes]") -> None:
    try:
        for number, seconds in program.leave_by:
            process.send_signal(number)
            if await _gone(process, seconds):
                return
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


async def _gone(process: "subprocess.Popen[bytes]", within: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within):
            await _ended(process, look_every=POLL)
    return process.poll() is not None


async def _ended(process: "subprocess.Popen[bytes]", *, look_every: float) -> None:
    while process.poll() is None:  # noqa: ASYNC110 - uvloop cannot watch another user's child
        await asyncio.sleep(look_every)


def _keep_last_log(path: Path) -> None:
    """Begins a new log and keeps the last one beside it, so that none grows for ever."""
    if path.exists():
        path.replace(path.with_name(f"{path.name}.1"))


def _last_words(program: Program, what: str) -> str:
    lines = program.log_file.read_text(errors="replace").splitlines()[-5:]
    said = "\n  ".join(lines) or "nothing"
    return f"{program.name} {what} and said:\n  {said}\n(all of it: {program.log_file})"

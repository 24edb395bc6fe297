"""End servers that a killed ``mediabus up`` left running on the data directory."""

import asyncio
import contextlib
import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mediabus.runtime.embedded.child import ServerFailed

if TYPE_CHECKING:
    import psutil

log: Final = logging.getLogger("mediabus.embedded")

STOP_TIMEOUT: Final = 10.0


async def end_leftovers(program: str, marker: Path, by: signal.Signals) -> None:
    """End every process called ``program`` that has ``marker`` as an argument or works in it.

    Command line and directory identify the server reliably; the pid in a file may be reused. Raises
    ServerFailed if a process does not end.
    """
    if not await asyncio.to_thread(_signal_all, program, marker, by):
        return
    log.warning("stopping a server of an earlier run", extra={"server": program})
    if await _all_gone(program, marker, within=STOP_TIMEOUT):
        return
    await asyncio.to_thread(_signal_all, program, marker, signal.SIGKILL)
    if not await _all_gone(program, marker, within=STOP_TIMEOUT):
        left = [process.pid for process in await asyncio.to_thread(_find, program, marker)]
        raise ServerFailed(
            f"{program} of an earlier run still uses {marker} and does not stop (processes "
            f"{left}): stop it first"
        )


async def _all_gone(program: str, marker: Path, *, within: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within):
            while await asyncio.to_thread(_find, program, marker):  # noqa: ASYNC110 - not our children
                await asyncio.sleep(0.05)
            return True
    return False


def _signal_all(program: str, marker: Path, number: signal.Signals) -> bool:
    """Signal the top-level processes: a postmaster stops its own children."""
    import psutil  # noqa: PLC0415 - comes with the extra, and only `up` needs it

    found = _find(program, marker)
    pids = {process.pid for process in found}
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.ppid() not in pids:
                process.send_signal(number)
    return bool(found)


def _find(program: str, marker: Path) -> "list[psutil.Process]":
    import psutil  # noqa: PLC0415

    return [process for process in psutil.process_iter() if _is_ours(process, program, marker)]


def _is_ours(process: "psutil.Process", program: str, marker: Path) -> bool:
    import psutil  # noqa: PLC0415

    try:
        if process.name() != program:
            return False
        return str(marker) in process.cmdline() or process.cwd() == str(marker)
    except psutil.Error:
        return False  # it ended, or belongs to another user

"""Servers that a killed ``mediabus up`` left on our data: ended before ours start."""

import asyncio
import contextlib
import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import psutil

log: Final = logging.getLogger("mediabus.embedded")

LEAVE_WITHIN: Final = 10.0


async def end_leftovers(program: str, marker: Path, by: signal.Signals) -> None:
    """Ends every process called ``program`` that has ``marker`` as an argument or works in it: our
    own server's command line and directory, which no pid file could mistake."""
    if not await asyncio.to_thread(_signal_all, program, marker, by):
        return
    log.warning("%s was left running: ending it", program)
    if not await _all_gone(program, marker, within=LEAVE_WITHIN):
        await asyncio.to_thread(_signal_all, program, marker, signal.SIGKILL)
        await _all_gone(program, marker, within=LEAVE_WITHIN)


async def _all_gone(program: str, marker: Path, *, within: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within):
            while await asyncio.to_thread(_find, program, marker):  # noqa: ASYNC110 - not our children
                await asyncio.sleep(0.05)
            return True
    return False


def _signal_all(program: str, marker: Path, number: signal.Signals) -> bool:
    """Signals those that are nobody's children among them: a postmaster tells its own."""
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
        return False  # gone, or another user's: our data is not theirs

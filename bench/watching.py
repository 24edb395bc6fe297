"""Measure the cost of watching a client by the number of its torrents, with ``bench.monitor``."""

import asyncio
import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor

from bench import aims
from bench.monitor import PROGRAMS, Asked, Figures, real, scripted
from bench.report import Section

MOVING = 50
"""One of this many torrents changes at every poll."""

MOST_REAL = 2_000
"""The most paused torrents for a real client, which needs half a minute to load them."""


async def measure(sizes: tuple[int, ...], seconds: float) -> Section:
    """Measure each size in a separate process, so that it has separate memory."""
    section = Section(aims.MONITOR)
    loop = asyncio.get_running_loop()
    for size in sizes:
        moving = max(1, size // MOVING)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
            found = await loop.run_in_executor(alone, _watch, size, moving, seconds)
        name = f"{size:,} torrents, {moving} move"
        section.add(f"{name}: first poll", "s", found.first_poll)
        section.add(f"{name}: CPU", "% of a core", found.cpu)
        section.add(f"{name}: memory", "MB", found.memory)
        section.add(f"{name}: writes", "1/s", found.writes)
        section.add(f"{name}: written per poll", "bytes", found.sent_bytes)
    await _add_real(section, max(size for size in sizes if size <= MOST_REAL), seconds)
    section.note(
        f"A scripted client for {seconds:g} s, and real ones if they are installed. Memory is "
        "that of the whole process."
    )
    return section


async def _add_real(section: Section, size: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    for kind, program in PROGRAMS.items():
        if shutil.which(program.program):
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
                found, wire = await loop.run_in_executor(alone, _watch_real, kind, size, seconds)
            name = f"{kind}, {size:,} paused"
            section.add(f"{name}: CPU", "% of a core", found.cpu)
            section.add(f"{name}: memory", "MB", found.memory)
            section.add(f"{name}: exchanged in the first poll", "bytes", wire.first)
            section.add(f"{name}: exchanged in a later poll", "bytes", wire.later)


def _watch_real(kind: str, size: int, seconds: float) -> tuple[Figures, Asked]:
    return asyncio.run(real(kind, size, seconds))


def _watch(size: int, moving: int, seconds: float) -> Figures:
    return asyncio.run(scripted(size, moving, seconds))

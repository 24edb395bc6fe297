"""What watching a download client costs, by the number of its torrents: from ``bench.monitor``."""

import asyncio
import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor

from bench import aims
from bench.monitor import PROGRAMS, Asked, Figures, real, scripted
from bench.report import Section

MOVING = 50
"""One torrent of so many moves at every look."""

MOST_REAL = 2_000
"""Paused torrents that a real client is given; it takes half a minute to take them."""


async def measure(sizes: tuple[int, ...], seconds: float) -> Section:
    """Each size in a process of its own, so that its memory is its own."""
    section = Section(aims.MONITOR)
    loop = asyncio.get_running_loop()
    for size in sizes:
        moving = max(1, size // MOVING)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
            found = await loop.run_in_executor(alone, _watch, size, moving, seconds)
        name = f"{size:,} torrents, {moving} move"
        section.add(f"{name}: first look", "s", found.first_look)
        section.add(f"{name}: CPU", "% of a core", found.cpu)
        section.add(f"{name}: memory", "MB", found.memory)
        section.add(f"{name}: writes", "1/s", found.writes)
        section.add(f"{name}: told at a look", "bytes", found.told)
    await _add_real(section, max(size for size in sizes if size <= MOST_REAL), seconds)
    section.note(
        f"A scripted client for {seconds:g} s, and real ones where they are installed. Memory is "
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
            section.add(f"{name}: asked at the first look", "bytes", wire.first)
            section.add(f"{name}: asked at a later look", "bytes", wire.later)


def _watch_real(kind: str, size: int, seconds: float) -> tuple[Figures, Asked]:
    return asyncio.run(real(kind, size, seconds))


def _watch(size: int, moving: int, seconds: float) -> Figures:
    return asyncio.run(scripted(size, moving, seconds))

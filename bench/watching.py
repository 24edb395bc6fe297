"""What watching a download client costs, by the number of its torrents: from ``bench.monitor``."""

import asyncio
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from bench import aims
from bench.monitor import Figures, scripted
from bench.report import Section

MOVING = 50
"""One torrent of so many moves at every look."""


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
    section.note(
        f"A scripted client for {seconds:g} s; memory is that of the whole process. "
        "`python -m bench.monitor` also measures the real ones where they are installed."
    )
    return section


def _watch(size: int, moving: int, seconds: float) -> Figures:
    return asyncio.run(scripted(size, moving, seconds))

"""Measure the start: ``mediabus up`` with and without existing data, and ``--help``."""

import asyncio
import os
import sys
import tempfile
import time

from bench import aims
from bench.report import Section
from bench.servers import Failed, mediabus

HELPS = 5
"""Starts per run, because a single one is short and varies."""


async def measure(runs: int) -> Section:
    """Measure the starts in turns."""
    section = Section(aims.START)
    for _ in range(runs):
        with tempfile.TemporaryDirectory(prefix="mediabus-bench-") as folder:
            section.add("mediabus up, from nothing", "s", await _up(folder))
            section.add("mediabus up, again", "s", await _up(folder))
        for _ in range(HELPS):
            section.add("mediabus --help", "ms", await _run(*mediabus("--help")))
            section.add("python -c pass", "ms", await _run(sys.executable, "-c", "pass"))
    section.note("Whole processes by the clock; `up` until it prints that it is up.")
    return section


async def _up(folder: str) -> float:
    """Return the seconds until everything runs."""
    variables = {**os.environ, "MEDIABUS_HTTP_PORT": "0", "MEDIABUS_LOG_LEVEL": "error"}
    started = time.perf_counter()
    running = await asyncio.create_subprocess_exec(
        *mediabus("--data-dir", folder, "up"), env=variables, stderr=asyncio.subprocess.PIPE
    )
    assert running.stderr
    try:
        async with asyncio.timeout(120):
            async for line in running.stderr:
                if b"mediabus is up" in line:
                    return time.perf_counter() - started
        raise Failed("mediabus up ended by itself")
    finally:
        running.terminate()
        await running.communicate()


async def _run(*command: str) -> float:
    """Return the milliseconds of a command."""
    started = time.perf_counter()
    running = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    if await running.wait():
        raise Failed(f"{command[0]} ended with {running.returncode}")
    return (time.perf_counter() - started) * 1000

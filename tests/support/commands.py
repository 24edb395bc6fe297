"""The `mediabus` command, run as people run it."""

import asyncio
import dataclasses
import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = (sys.executable, "-m", "service.cli.main")


def environment() -> dict[str, str]:
    """Ours, without the settings of whoever runs the tests, and with an actor for `publish`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MEDIABUS_")}
    return {**kept, "LOGNAME": "tester", "PYTHONPATH": str(ROOT), "COLUMNS": "200", "TZ": "UTC"}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int | None
    out: str
    err: str


async def start(*args: str, **changes: str) -> asyncio.subprocess.Process:
    """A command under way; the caller ends it."""
    return await asyncio.create_subprocess_exec(
        *PROGRAM,
        *args,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**environment(), **changes},
    )


async def mediabus(*args: str, stdin: bytes = b"", **changes: str) -> Outcome:
    """A command run to its end; ``changes`` are variables of its environment."""
    process = await start(*args, **changes)
    try:
        out, err = await asyncio.wait_for(process.communicate(stdin), timeout=30)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Outcome(process.returncode, out.decode(), err.decode())

"""The `mediabus` command, run as people run it."""

import asyncio
import dataclasses
import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = (sys.executable, "-m", "mediabus.main")


def environment() -> dict[str, str]:
    """The environment without the user's settings, and with an actor for `publish`."""
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
    return await _ended(await start(*args, **changes), stdin, within=30)


async def with_servers(*args: str) -> Outcome:
    """A command that starts or copies servers, which takes long on a busy machine."""
    return await _ended(await start(*args), b"", within=90)


async def _ended(process: asyncio.subprocess.Process, stdin: bytes, *, within: float) -> Outcome:
    try:
        out, err = await asyncio.wait_for(process.communicate(stdin), timeout=within)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Outcome(process.returncode, out.decode(), err.decode())

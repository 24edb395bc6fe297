"""The environment of the peers, created at the first use and when a version changes."""

import asyncio
import hashlib
import sys
from typing import Final

from bench.servers import REPOSITORY

FOLDER: Final = REPOSITORY / ".venv-peers"
PYTHON: Final = str(FOLDER / "bin" / "python")
LOCK: Final = REPOSITORY / "locks" / "peers.txt"

Reasons = dict[str, str]
"""Why a peer cannot run here, by its name; empty if all can."""


async def install(peers: tuple[str, ...]) -> Reasons:
    """Install the peers, with the hashes of the lock file, and return why that was not possible."""
    if not peers:
        return {}
    if not FOLDER.exists():
        await _run(sys.executable, "-m", "venv", str(FOLDER))
    done = FOLDER / f"installed-{_digest()}"
    if not done.exists():
        wrong = await _run(
            *(PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check"),
            *("--no-deps", "--require-hashes", "--requirement", str(LOCK)),
        )
        if wrong:
            return dict.fromkeys(peers, wrong)
        done.touch()
    return {}


def _digest() -> str:
    return hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]


async def _run(*command: str) -> str:
    """Run a command. Return the first line of its error, or an empty string."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, words = await process.communicate()
    if process.returncode == 0:
        return ""
    errors = [line for line in words.decode().splitlines() if line.startswith("ERROR")]
    return errors[0] if errors else f"{command[0]} ended with {process.returncode}"

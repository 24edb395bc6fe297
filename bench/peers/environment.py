"""The environment of the peers: made at the first use, and again when a version changes."""

import asyncio
import hashlib
import sys
from typing import Final

from bench.servers import REPOSITORY

FOLDER: Final = REPOSITORY / ".venv-peers"
PYTHON: Final = str(FOLDER / "bin" / "python")
REQUIREMENTS: Final = REPOSITORY / "bench" / "peers" / "requirements.txt"
EVERYBODY: Final = ("asyncpg", "msgspec", "nats-py", "uvloop")

Reasons = dict[str, str]
"""Why a peer is not here, by its name; nothing of those that are."""


async def install(peers: tuple[str, ...]) -> Reasons:
    """Installs the peers that are missing and says of which that was not possible."""
    if peers and not FOLDER.exists():
        await _run(sys.executable, "-m", "venv", str(FOLDER))
    reasons = {}
    for peer in peers:
        done = FOLDER / f"installed-{peer}-{_digest()}"
        if not done.exists():
            wrong = await _run(
                *(PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check"),
                *("-c", str(REQUIREMENTS), peer, *EVERYBODY),
            )
            if wrong:
                reasons[peer] = wrong
                continue
            done.touch()
    return reasons


def _digest() -> str:
    return hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]


async def _run(*command: str) -> str:
    """What a command says first where it fails; nothing where it does not."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, words = await process.communicate()
    if process.returncode == 0:
        return ""
    errors = [line for line in words.decode().splitlines() if line.startswith("ERROR")]
    return errors[0] if errors else f"{command[0]} ended with {process.returncode}"

"""Load on a real download client: initiate, pause and resume downloads through mediabus."""

import asyncio
import base64
import contextlib
import os
import random
import shutil
from collections.abc import Iterator
from typing import Final

from chaos.ledger import Step
from chaos.load import Load, Uncertain
from tests.support import daemons, torrents

PROGRAM: Final = "transmission-daemon"
USERS: Final = 6
PAUSE: Final = 1.5
"""Mean seconds from one operation of a user to the next; at most twice that."""

STEPS: Final = {
    "downloads.pause": "download.paused",
    "downloads.resume": "download.resumed",
}

NOWHERE: Final = "http://127.0.0.1:9/announce"


def is_possible() -> str | None:
    """Return why this machine has no download client; None if it has."""
    return None if shutil.which(PROGRAM) else f"{PROGRAM} is not installed"


@contextlib.contextmanager
def client() -> Iterator[daemons.Transmission | None]:
    """Run a Transmission if it is installed."""
    if is_possible() is None:
        with daemons.Transmission.started() as running:
            yield running
    else:
        yield None


async def use(load: Load) -> None:
    """Initiate, pause and resume downloads until cancelled.

    After an uncertain reply, the user abandons the download and initiates another: the ledger only
    holds steps that are known to have happened.
    """
    async with asyncio.TaskGroup() as tasks:
        for _ in range(USERS):
            tasks.create_task(_use(load))


async def _use(load: Load) -> None:
    while True:
        with contextlib.suppress(Uncertain):
            download = await _initiated(load)
            while True:
                for operation, event_type in STEPS.items():
                    await asyncio.sleep(random.uniform(0, 2 * PAUSE))
                    await load.ask(operation, {"id": download})
                    load.ledger.note(Step(download, event_type))
        await asyncio.sleep(PAUSE)


async def _initiated(load: Load) -> str:
    torrent = torrents.make_torrent(f"{os.urandom(8).hex()}.bin", os.urandom(20_000), NOWHERE)
    content = base64.b64encode(torrent.content).decode()
    request = {"title": "A download", "torrent": content}
    _, answer = await load.ask("downloads.initiate", request)
    download = str(answer["id"])
    load.ledger.note(Step(download, "download.initiated"))
    return download

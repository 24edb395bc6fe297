"""The load upon a real download client: downloads that are paused and resumed through mediabus."""

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
"""Seconds from one operation of a user to the next, at most twice of it."""

STEPS: Final = {
    "downloads.pause": "download.paused",
    "downloads.resume": "download.resumed",
}

NOWHERE: Final = "http://127.0.0.1:9/announce"


def is_possible() -> str | None:
    """Why there is no download client here, or None."""
    return None if shutil.which(PROGRAM) else f"{PROGRAM} is not installed"


@contextlib.contextmanager
def client() -> Iterator[daemons.Transmission | None]:
    """A Transmission at work, where it is installed."""
    if is_possible() is None:
        with daemons.Transmission.started() as running:
            yield running
    else:
        yield None


async def use(load: Load) -> None:
    """Downloads and pauses and resumes, for ever. After an uncertain answer the download is left
    alone and another one made: only what is known to have been paused owes that it was resumed."""
    async with asyncio.TaskGroup() as tasks:
        for _ in range(USERS):
            tasks.create_task(_use(load))


async def _use(load: Load) -> None:
    while True:
        with contextlib.suppress(Uncertain):
            download = await _initiated(load)
            while True:
                for operation, told in STEPS.items():
                    await asyncio.sleep(random.uniform(0, 2 * PAUSE))
                    await load.ask(operation, {"id": download})
                    load.ledger.note(Step(download, told))
        await asyncio.sleep(PAUSE)


async def _initiated(load: Load) -> str:
    torrent = torrents.make_torrent(f"{os.urandom(8).hex()}.bin", os.urandom(20_000), NOWHERE)
    content = base64.b64encode(torrent.content).decode()
    request = {"title": "A download", "torrent": content}
    _, answer = await load.ask("downloads.initiate", request)
    download = str(answer["id"])
    load.ledger.note(Step(download, "download.initiated"))
    return download

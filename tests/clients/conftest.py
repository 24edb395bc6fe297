"""A real daemon of each kind for a module of tests, and a session with it for each test."""

import dataclasses
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from mediabus.schemas.status import DownloadStatus, ItemId
from mediabus.service.clients.port import Delta, DownloadClient, Observation, Snapshot, TorrentFile
from tests.support import daemons, torrents
from tests.support.aria2_daemon import Aria2
from tests.support.deluge_daemon import Deluge
from tests.support.eventually import eventually
from tests.support.rtorrent_daemon import RTorrent
from tests.support.sabnzbd_daemon import Sabnzbd

KINDS: dict[str, type[daemons.Daemon]] = {
    "aria2": Aria2,
    "deluge": Deluge,
    "qbittorrent": daemons.QBittorrent,
    "rtorrent": RTorrent,
    "transmission": daemons.Transmission,
}
"""The torrent clients: all pass the same tests."""

WITH_PASSWORD = sorted(kind for kind, daemon in KINDS.items() if daemon.has_password)
"""rTorrent knows none: test_rtorrent asks a web server before it."""


collect_ignore = [] if shutil.which(Sabnzbd.program) else ["test_sabnzbd.py"]
"""SABnzbd is not in Debian main: ``make clients-newer`` has it."""

TELLING_OF_TRACKERS = sorted(kind for kind, it in KINDS.items() if it.tells_of_trackers)

CAN_WANT_NOTHING = sorted(kind for kind, it in KINDS.items() if it.can_want_nothing)
"""aria2 takes an empty selection for all files."""


@pytest.fixture(scope="module", params=sorted(KINDS))
def shared_daemon(request: pytest.FixtureRequest) -> Iterator[daemons.Daemon]:
    with KINDS[request.param].started() as running:
        yield running


@pytest.fixture
async def daemon(shared_daemon: daemons.Daemon) -> AsyncIterator[daemons.Daemon]:
    """Running, and emptied after the test.

    One that crashed is started again, so that it fails one test and not all those after it.
    """
    if not shared_daemon.running:
        shared_daemon.start()
    yield shared_daemon
    if not shared_daemon.running:
        shared_daemon.start()
    async with shared_daemon.settings().connect() as client:
        for status in await everything(client):
            await client.remove(status.item, delete_files=True)


@pytest.fixture
async def client(daemon: daemons.Daemon) -> AsyncIterator[DownloadClient]:
    async with daemon.settings().connect() as session:
        yield session


@pytest.fixture
async def swarm(tmp_path: Path) -> AsyncIterator[torrents.Swarm]:
    async with torrents.swarm(tmp_path) as running:
        yield running


async def add(
    client: DownloadClient, shared: torrents.Shared, *, present_in: Path | None = None
) -> ItemId:
    """Hand it over, with the data already in place if a directory is given."""
    if present_in is not None:
        (present_in / shared.name).write_bytes(shared.payload)
    return await client.add(TorrentFile(shared.content), title=shared.name, category=None)


async def everything(client: DownloadClient) -> Sequence[DownloadStatus]:
    """What the client says in its first answer of a session, or of one that was renewed."""
    seen = await client.observe()
    assert isinstance(seen, Snapshot)
    return seen.items


@dataclasses.dataclass
class View:
    """What the observations of one session add up to, as a watcher would keep it."""

    client: DownloadClient
    patience: float = 20.0
    """Seconds in which what is expected must be seen."""
    items: dict[ItemId, DownloadStatus] = dataclasses.field(default_factory=dict)

    async def refresh(self) -> Observation:
        seen = await self.client.observe()
        match seen:
            case Snapshot(items):
                self.items = {status.item: status for status in items}
            case Delta(changed, removed):
                self.items |= {status.item: status for status in changed}
                for item in removed:
                    self.items.pop(item, None)
        return seen

    async def until(
        self,
        item: ItemId,
        fact: Callable[[DownloadStatus], object],
        *,
        within: float | None = None,
        every: float = 0.1,
    ) -> DownloadStatus:
        """The item's first status for which the fact holds."""

        async def holds() -> DownloadStatus | None:
            await self.refresh()
            status = self.items.get(item)
            return status if status is not None and fact(status) else None

        try:
            return await eventually(holds, within=within or self.patience, every=every)
        except AssertionError as error:
            error.add_note(f"what was last seen of it: {self.items.get(item)}")
            raise


@pytest.fixture
def view(client: DownloadClient, daemon: daemons.Daemon) -> View:
    return View(client, daemon.patience)

"""What becomes of a download when the disk of its client is full."""

from collections.abc import Iterator

import pytest

from mediabus.schemas.status import DownloadStatus, ItemId, Phase
from mediabus.service.clients.port import ClientUnavailable
from tests.clients.conftest import KINDS, View, add
from tests.support import deluge_daemon
from tests.support.daemons import Daemon, can_mount
from tests.support.eventually import eventually
from tests.support.torrents import Swarm

pytestmark = pytest.mark.skipif(not can_mount(), reason="a disk of its own may not be mounted here")

STANDS_STILL = "stands still: "


@pytest.fixture(params=sorted(KINDS))
def cramped(request: pytest.FixtureRequest) -> Iterator[Daemon]:
    with KINDS[request.param].started(disk=2 << 20) as running:
        yield running


async def test_a_full_disk_fails_the_download_or_the_client(cramped: Daemon, swarm: Swarm) -> None:
    async with cramped.settings().connect() as client:
        item = await add(client, swarm.share(size=6 << 20))
        ended = await end_of(View(client), item)
    if isinstance(ended, ClientUnavailable):
        assert cramped.dies_of_a_full_disk
        assert ended.reason == "connection"
        await eventually(lambda: not cramped.running)
    elif ended.phase is Phase.DOWNLOADING:
        assert isinstance(cramped, deluge_daemon.Deluge)  # rarely, as below
    else:
        assert ended.reason == "disk_full", ended
        assert ended.progress < 1


async def test_a_full_disk_that_deluge_does_not_report_is_detected(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mediabus.service.clients.deluge.session.FULL_POLL_EVERY", 1.0)
    monkeypatch.setitem(deluge_daemon.DELUGE_JSON, "pre_allocate_storage", True)
    with deluge_daemon.Deluge.started(disk=2 << 20) as daemon:
        async with daemon.settings().connect() as client:
            item = await add(client, swarm.share(size=6 << 20))
            view = View(client)
            seen = await view.until(item, lambda it: STANDS_STILL in (it.message or ""), within=60)
    assert seen.phase is Phase.DOWNLOADING
    assert seen.reason is None


async def end_of(view: View, item: ItemId) -> DownloadStatus | ClientUnavailable:
    try:
        return await view.until(item, has_ended, within=60)
    except ClientUnavailable as away:
        return away


def has_ended(status: DownloadStatus) -> bool:
    return status.phase in (Phase.FAILED, Phase.COMPLETED) or STANDS_STILL in (status.message or "")

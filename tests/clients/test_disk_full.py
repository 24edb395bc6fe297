"""What becomes of a download when the disk of its client is full."""

from collections.abc import Iterator

import pytest

from schemas.status import DownloadStatus, ItemId, Phase
from service.clients.port import ClientUnavailable
from tests.clients.conftest import KINDS, View, add
from tests.support.daemons import Daemon, can_mount
from tests.support.eventually import eventually
from tests.support.torrents import Swarm

pytestmark = pytest.mark.skipif(not can_mount(), reason="a disk of its own may not be mounted here")

ENDS = {Phase.FAILED, Phase.COMPLETED}


@pytest.fixture(params=sorted(KINDS))
def cramped(request: pytest.FixtureRequest) -> Iterator[Daemon]:
    with KINDS[request.param].started(disk=2 << 20) as running:
        yield running


async def test_a_full_disk_is_a_failure_with_its_reason_or_a_client_out_of_reach(
    cramped: Daemon, swarm: Swarm
) -> None:
    async with cramped.settings().connect() as client:
        item = await add(client, swarm.share(size=6 << 20))
        ended = await end_of(View(client), item)
    if isinstance(ended, ClientUnavailable):
        assert cramped.dies_of_a_full_disk
        assert ended.reason == "connection"
        await eventually(lambda: not cramped.running)
    else:
        assert ended.reason == "disk_full", ended
        assert ended.progress < 1


async def end_of(view: View, item: ItemId) -> DownloadStatus | ClientUnavailable:
    try:
        return await view.until(item, lambda it: it.phase in ENDS, within=60)
    except ClientUnavailable as away:
        return away

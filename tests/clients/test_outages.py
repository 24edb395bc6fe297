"""What every download client must do when it is killed, restarted or forgets us."""

from collections.abc import Iterator

import msgspec
import pytest

from mediabus.schemas.status import Phase
from mediabus.service.clients.port import ClientUnavailable, Delta, DownloadClient, Magnet, Snapshot
from tests.clients.conftest import KINDS, View, add, everything
from tests.support.daemons import Daemon
from tests.support.eventually import eventually
from tests.support.torrents import Swarm


@pytest.fixture(params=sorted(KINDS))
def shared_daemon(request: pytest.FixtureRequest) -> Iterator[Daemon]:
    """Not shared, because these tests stop and start it."""
    with KINDS[request.param].started() as running:
        yield running


async def test_a_killed_client_is_reached_again_in_the_same_session(
    client: DownloadClient, daemon: Daemon, swarm: Swarm, view: View
) -> None:
    item = await add(client, swarm.share(rate=1))
    await eventually(lambda: daemon.keeps(item))
    first = await view.refresh()
    assert isinstance(first, Snapshot)
    assert not first.restarted

    daemon.kill()

    for call in (client.observe, client.version, lambda: client.pause(item)):
        with pytest.raises(ClientUnavailable) as away:
            await call()
        assert away.value.reason == "connection"
    daemon.start()
    back = await view.refresh()
    assert isinstance(back, Snapshot)
    assert [status.item for status in back.items] == [item]
    assert back.restarted
    again = await view.refresh()
    assert not isinstance(again, Snapshot) or not again.restarted


async def test_a_client_that_was_only_out_of_reach_was_not_restarted(
    daemon: Daemon, swarm: Swarm
) -> None:
    patience = msgspec.structs.replace(daemon.settings(), timeout=2.0)
    async with patience.connect() as client:
        item = await add(client, swarm.share(rate=1))
        await client.observe()

        daemon.pause()
        with pytest.raises(ClientUnavailable) as away:
            await client.observe()
        daemon.resume()

        assert away.value.reason == "connection"
        back = await client.observe()
        assert isinstance(back, Snapshot)
        assert [status.item for status in back.items] == [item]
        assert back.restarted is daemon.forgets_connections


async def test_a_session_that_ends_is_renewed_unseen(
    client: DownloadClient, daemon: Daemon, swarm: Swarm, view: View
) -> None:
    item = await add(client, swarm.share(rate=1))
    await view.until(item, lambda status: status.phase is Phase.DOWNLOADING)

    await daemon.end_session(client)

    await client.pause(item)
    assert isinstance(await view.refresh(), Snapshot)
    await view.until(item, lambda status: status.phase is Phase.PAUSED)
    assert isinstance(await view.refresh(), Delta)


async def test_files_that_went_missing_are_noticed_at_the_next_start(
    client: DownloadClient, daemon: Daemon, swarm: Swarm, view: View
) -> None:
    shared = swarm.share("missed.bin")
    item = await add(client, shared, present_in=daemon.downloads)
    await view.until(item, lambda status: status.phase is Phase.COMPLETED)

    daemon.stop()
    (daemon.downloads / shared.name).unlink()
    swarm.limit(shared, 1)
    daemon.start()

    phases = {daemon.vanished, *daemon.vanished_otherwise}
    seen = await view.until(item, lambda status: status.phase in phases)
    assert (seen.reason == "missing_files") is (seen.phase is Phase.FAILED)


async def test_a_download_killed_half_way_completes(
    client: DownloadClient, daemon: Daemon, swarm: Swarm, view: View
) -> None:
    shared = swarm.share(size=3 << 19, rate=1 << 19)
    item = await add(client, shared)
    await view.until(item, lambda status: 0 < status.progress < 1, within=30)
    await eventually(lambda: daemon.keeps(item))

    daemon.kill()
    swarm.limit(shared, 0)
    daemon.start()
    await client.resume(item)  # some come back as they were last saved, which is paused

    done = await view.until(item, lambda status: status.phase is Phase.COMPLETED, within=60)
    assert done.downloaded == shared.size
    assert (daemon.downloads / shared.name).read_bytes() == shared.payload


async def test_a_removed_download_stays_removed_after_a_restart(
    client: DownloadClient, daemon: Daemon, swarm: Swarm, view: View
) -> None:
    shared = swarm.share(private=False, rate=1 << 14)
    item = await client.add(Magnet(shared.magnet), title="", category=None)
    await view.until(item, lambda status: status.phase is Phase.DOWNLOADING, within=30)
    await eventually(lambda: daemon.keeps(item))

    await client.remove(item, delete_files=True)
    daemon.restart()

    assert item not in [status.item for status in await everything(client)]

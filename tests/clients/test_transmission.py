"""What only Transmission does: names that lead out of its folder, as 4.1 keeps them."""

import base64
from collections.abc import Iterator

import pytest

from mediabus.service.clients.port import ClientRefused, Delta, Snapshot
from mediabus.service.clients.transmission import session as transmission
from mediabus.service.clients.transmission.rpc import Added
from mediabus.service.clients.transmission.session import Transmission
from tests.support import daemons
from tests.support.torrents import make_torrent


@pytest.fixture(scope="module")
def shared_daemon() -> Iterator[daemons.Transmission]:
    with daemons.Transmission.started() as running:
        yield running


async def test_a_torrent_name_outside_its_folder_deletes_no_files_there(
    client: Transmission, daemon: daemons.Transmission
) -> None:
    """Added in Transmission itself. 3.00 refuses it; 4.1 would delete the folder above."""
    content = make_torrent("..", bytes(1000), "http://127.0.0.1:9/announce").content
    metainfo = base64.b64encode(content).decode()
    before = set(daemon.home.iterdir())
    try:
        added = await client._rpc.call(Added, "torrent-add", metainfo=metainfo)
    except ClientRefused:
        return
    assert added.added is not None
    item = added.added.hash_string

    with pytest.raises(ClientRefused, match="would delete other"):
        await client.remove(item, delete_files=True)  # type: ignore[arg-type]
    await client.remove(item, delete_files=False)  # type: ignore[arg-type]

    assert set(daemon.home.iterdir()) >= before


async def test_everything_is_asked_for_now_and_then(
    client: Transmission, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(await client.observe(), Snapshot)
    assert isinstance(await client.observe(), Delta)

    monkeypatch.setattr(transmission, "FULL_POLL_EVERY", 0.0)

    seen = await client.observe()
    assert isinstance(seen, Snapshot)
    assert not seen.restarted

"""What every download client must do, asked of the real ones."""

import ipaddress
import re
import time
from pathlib import Path

import bencode2
import psutil
import pytest

from mediabus.schemas.status import DownloadStatus, ItemId, Phase
from mediabus.service.clients.port import (
    ClientRefused,
    ClientUnavailable,
    Delta,
    DownloadClient,
    Magnet,
    NzbFile,
    TorrentFile,
)
from mediabus.service.clients.selection import NOTHING_WANTED
from tests.clients.conftest import (
    CAN_WANT_NOTHING,
    TELLING_OF_TRACKERS,
    WITH_PASSWORD,
    View,
    add,
    everything,
)
from tests.support.daemons import Daemon, SelectsFiles
from tests.support.eventually import eventually
from tests.support.torrents import PIECE, Swarm, make_torrent

NOWHERE = ItemId("0" * 40)


async def test_it_reports_its_version(client: DownloadClient) -> None:
    assert re.fullmatch(r"\d+\.\d+[\w.+-]*", await client.version())


async def test_a_download_is_seen_from_its_start_to_the_last_byte(
    client: DownloadClient, swarm: Swarm, view: View
) -> None:
    shared = swarm.share("a film.mkv", size=3 << 19, rate=1 << 19)

    item = await add(client, shared)

    assert item == shared.infohash
    midway = await view.until(item, lambda status: 0 < status.progress < 1, within=30)
    assert midway.phase is Phase.DOWNLOADING
    assert 0 < midway.downloaded < shared.size
    swarm.limit(shared, 0)
    done = await view.until(item, lambda status: status.phase is Phase.COMPLETED, within=30)
    assert (done.title, done.progress, done.size) == ("a film.mkv", 1.0, shared.size)
    assert done.downloaded == shared.size
    assert done.save_path is not None
    assert (Path(done.save_path) / shared.name).read_bytes() == shared.payload


async def test_only_selected_files_count(
    client: DownloadClient, daemon: Daemon, swarm: Swarm, view: View
) -> None:
    sizes = {"a.bin": 40 * PIECE, "b.bin": 80 * PIECE}
    shared = swarm.share_folder("some of it", sizes, rate=1 << 16)
    item = await add(client, shared)
    await view.until(item, lambda status: status.downloaded, within=30)

    assert isinstance(daemon, SelectsFiles)
    await daemon.want(client, item, [True, False])

    some = await view.until(item, lambda status: status.size != shared.size, within=45)
    # To Transmission, what is there already of the other file is wanted, too.
    assert sizes["a.bin"] <= (some.size or 0) < shared.size
    swarm.limit(shared, 0)
    done = await view.until(item, lambda status: status.phase is Phase.COMPLETED, within=45)
    assert done.size is not None
    assert sizes["a.bin"] <= done.size < shared.size
    assert (done.downloaded, done.progress, done.warning) == (done.size, 1.0, None)


@pytest.mark.parametrize("shared_daemon", CAN_WANT_NOTHING, indirect=True)
async def test_a_download_without_selected_files_has_a_warning(
    client: DownloadClient, daemon: Daemon, swarm: Swarm, view: View
) -> None:
    shared = swarm.share_folder("none of it", {"a.bin": PIECE, "b.bin": PIECE}, rate=1)
    item = await add(client, shared)
    await view.until(item, lambda status: status.phase is Phase.DOWNLOADING, within=30)

    assert isinstance(daemon, SelectsFiles)
    await daemon.want(client, item, [False, False])

    done = await view.until(item, lambda status: status.phase is Phase.COMPLETED, within=45)
    assert (done.size, done.downloaded, done.warning) == (0, 0, NOTHING_WANTED)


async def test_the_client_uses_only_loopback(
    client: DownloadClient, daemon: Daemon, swarm: Swarm, view: View
) -> None:
    item = await add(client, swarm.share(size=4 << 20, rate=1 << 18))
    await view.until(item, lambda status: status.downloaded, within=30)

    assert daemon._process is not None
    sockets = psutil.Process(daemon._process.pid).net_connections("inet")

    assert len(sockets) > 1
    own = [ipaddress.ip_address(it.laddr.ip.removeprefix("::ffff:")) for it in sockets]
    assert [address for address in own if not address.is_loopback] == []


async def test_a_magnet_link_finds_its_name_and_size(
    client: DownloadClient, swarm: Swarm, view: View
) -> None:
    shared = swarm.share("named by its peers.mkv", private=False, rate=1 << 14)

    item = await client.add(Magnet(shared.magnet), title="", category=None)

    assert item == shared.infohash
    seeking = await view.until(item, lambda status: status.phase is Phase.METADATA)
    assert (seeking.progress, seeking.size) == (0.0, None)
    known = await view.until(item, lambda status: status.phase is Phase.DOWNLOADING, within=30)
    assert (known.title, known.size) == (shared.name, shared.size)


async def test_a_magnet_link_without_sources_is_paused_and_removed(
    client: DownloadClient, daemon: Daemon, swarm: Swarm, view: View
) -> None:
    unfindable = Magnet(swarm.share(private=True).magnet)
    item = await client.add(unfindable, title="", category=None)
    await view.until(item, lambda status: status.phase is Phase.METADATA)

    await client.pause(item)
    await view.until(item, lambda status: status.phase is Phase.PAUSED)
    await client.resume(item)
    await view.until(item, lambda status: status.phase is Phase.METADATA)
    await client.remove(item, delete_files=True)

    async with daemon.settings().connect() as another:
        assert await everything(another) == []


async def test_a_source_that_dies_leaves_a_download_that_stands_still(
    client: DownloadClient, swarm: Swarm, view: View
) -> None:
    shared = swarm.share(size=8 << 20, rate=1 << 19)
    item = await add(client, shared)
    await view.until(item, lambda status: status.downloaded, within=30)
    changed = {0: time.monotonic()}

    def stands_still(status: DownloadStatus) -> bool:
        return time.monotonic() - changed.setdefault(status.downloaded, time.monotonic()) > 3

    swarm.abandon(shared)

    stalled = await view.until(item, stands_still, within=30)
    assert (stalled.phase, stalled.reason) == (Phase.DOWNLOADING, None)
    assert 0 < stalled.downloaded < shared.size


@pytest.mark.parametrize("shared_daemon", TELLING_OF_TRACKERS, indirect=True)
async def test_a_tracker_message_is_shown_and_not_a_failure(
    client: DownloadClient, swarm: Swarm, view: View
) -> None:
    swarm.refusal = "unregistered torrent"
    await view.refresh()

    item = await add(client, swarm.share())

    refused = await view.until(item, lambda status: status.message, within=45)
    assert "unregistered torrent" in (refused.message or "")
    assert (refused.phase, refused.reason) == (Phase.DOWNLOADING, None)


async def test_a_pause_by_another_program_is_seen(
    client: DownloadClient, daemon: Daemon, swarm: Swarm, view: View
) -> None:
    item = await add(client, swarm.share(rate=1))
    await view.until(item, lambda status: status.phase is Phase.DOWNLOADING)

    async with daemon.settings().connect() as another:
        await another.pause(item)
        await view.until(item, lambda status: status.phase is Phase.PAUSED)
        await another.resume(item)
        await view.until(item, lambda status: status.phase is Phase.DOWNLOADING)


async def test_a_pause_and_a_resume_are_seen(
    client: DownloadClient, swarm: Swarm, view: View
) -> None:
    item = await add(client, swarm.share(rate=1))
    await view.until(item, lambda status: status.phase is Phase.DOWNLOADING)

    await client.pause(item)
    await view.until(item, lambda status: status.phase is Phase.PAUSED)
    await client.pause(item)  # does not fail

    await client.resume(item)
    await view.until(item, lambda status: status.phase is Phase.DOWNLOADING)
    await client.resume(item)  # does not fail


async def test_a_download_is_not_paused_at_its_start(
    client: DownloadClient, swarm: Swarm, view: View
) -> None:
    await view.refresh()
    phases = set()

    def is_sought(status: DownloadStatus) -> bool:
        phases.add(status.phase)
        return status.phase is Phase.METADATA

    item = await client.add(Magnet(swarm.share(rate=1).magnet), title="", category=None)
    await view.until(item, is_sought, every=0)

    assert Phase.PAUSED not in phases


async def test_a_pause_at_once_after_the_start_lasts(
    client: DownloadClient, daemon: Daemon, swarm: Swarm, view: View
) -> None:
    await view.refresh()
    item = await add(client, swarm.share(size=4 << 20, rate=1))

    await client.pause(item)

    await view.until(item, lambda status: status.phase is Phase.PAUSED)
    async with daemon.settings().connect() as another:
        assert [status.phase for status in await everything(another)] == [Phase.PAUSED]


async def test_data_that_is_already_there_is_a_completed_download(
    client: DownloadClient, daemon: Daemon, swarm: Swarm, view: View
) -> None:
    item = await add(client, swarm.share(), present_in=daemon.downloads)

    await view.until(item, lambda status: status.phase is Phase.COMPLETED)


async def test_a_paused_complete_download_is_completed_not_paused(
    client: DownloadClient, daemon: Daemon, swarm: Swarm, view: View
) -> None:
    item = await add(client, swarm.share(), present_in=daemon.downloads)
    # Transmission 4.1 may show it as stopped for a moment before it seeds.
    seeding = await view.until(
        item, lambda it: it.phase is Phase.COMPLETED and it.client_state != "stopped"
    )

    await client.pause(item)

    stopped = await view.until(item, lambda status: status.client_state != seeding.client_state)
    assert stopped.phase is Phase.COMPLETED


@pytest.mark.parametrize("delete_files", [False, True])
async def test_a_removal_deletes_files_only_on_request(
    client: DownloadClient, daemon: Daemon, swarm: Swarm, view: View, *, delete_files: bool
) -> None:
    shared = swarm.share(f"removed {delete_files}.bin")
    item = await add(client, shared, present_in=daemon.downloads)
    await view.until(item, lambda status: status.phase is Phase.COMPLETED)

    await client.remove(item, delete_files=delete_files)

    await eventually(lambda: (daemon.downloads / shared.name).exists() is not delete_files)
    assert (daemon.downloads / shared.name).exists() is not delete_files
    await client.remove(item, delete_files=delete_files)  # does not fail


async def test_a_download_removed_by_another_program_is_reported(
    client: DownloadClient, daemon: Daemon, swarm: Swarm, view: View
) -> None:
    item = await add(client, swarm.share())
    await view.until(item, lambda _: True)
    async with daemon.settings().connect() as another:
        await another.remove(item, delete_files=True)

    async def removed() -> bool:
        seen = await view.refresh()
        return isinstance(seen, Delta) and item in seen.removed

    await eventually(removed)
    assert item not in view.items


async def test_a_download_added_again_between_polls_is_not_removed(
    daemon: Daemon, client: DownloadClient, swarm: Swarm, view: View
) -> None:
    shared = swarm.share(rate=1)
    item = await add(client, shared)
    await view.until(item, lambda status: status.phase is Phase.DOWNLOADING)

    async with daemon.settings().connect() as another:
        await another.remove(item, delete_files=False)
        await add(another, shared)
    await view.refresh()

    assert item in view.items


async def test_deltas_after_the_snapshot_add_up(
    client: DownloadClient, daemon: Daemon, swarm: Swarm, view: View
) -> None:
    kept = await add(client, swarm.share("kept.bin"), present_in=daemon.downloads)
    await view.until(kept, lambda status: status.phase is Phase.COMPLETED)
    moved = await add(client, swarm.share("moved.bin", rate=1))
    await client.pause(moved)
    await view.until(moved, lambda status: status.phase is Phase.PAUSED)

    assert isinstance(await view.refresh(), Delta)

    await client.resume(moved)
    await view.until(moved, lambda status: status.phase is Phase.DOWNLOADING)
    async with daemon.settings().connect() as fresh:
        whole = await everything(fresh)
    assert {status.item: status.phase for status in whole} == {
        item: status.phase for item, status in view.items.items()
    }


@pytest.mark.parametrize(
    "name",
    [
        "Ünï 日本語.mkv",
        'it\'s "quoted" & <b>bold %2F.mkv',
        "🎬 a.mkv",
        "two\nlines.mkv",
        "bell\a & escape\x1b.mkv",
        ".hidden.mkv",
        "no\N{FULLWIDTH SOLIDUS}slash.mkv",
        "\u200fright to left\u202e.mkv",
        "x" * 200,
        "é" * 200,  # bytes: more than the name of a file can have
    ],
)
async def test_any_name_is_shown_as_the_client_has_it(
    client: DownloadClient, daemon: Daemon, swarm: Swarm, view: View, name: str
) -> None:
    named = make_torrent(name, b"x" * 1000, swarm.tracker)
    shown = daemon.shown_name(name, await client.version())
    if shown is None:
        with pytest.raises(ClientRefused, match=r"refused|reported"):
            await add(client, named)
        return

    before = data_in(daemon.downloads)
    item = await add(client, named)

    assert (await view.until(item, lambda _: True)).title == shown
    await client.remove(item, delete_files=True)
    await eventually(lambda: data_in(daemon.downloads) <= before)


def data_in(directory: Path) -> set[Path]:
    """The files other than the torrent files that aria2 keeps."""
    return {it for it in directory.iterdir() if it.suffix != ".torrent"}


async def test_a_torrent_name_outside_its_folder_is_refused(
    client: DownloadClient, daemon: Daemon, swarm: Swarm
) -> None:
    with pytest.raises(ClientRefused, match="its name leads out"):
        await add(client, make_torrent("..", b"x" * 1000, swarm.tracker))

    assert daemon.running


async def test_a_category_is_kept_as_well_as_the_client_can(
    client: DownloadClient, daemon: Daemon, swarm: Swarm, view: View
) -> None:
    shared = swarm.share()

    item = await client.add(TorrentFile(shared.content), title="", category="tv & più")

    await view.until(item, lambda status: status.category == daemon.kept("tv & più"))


async def test_a_duplicate_is_refused_in_either_form(client: DownloadClient, swarm: Swarm) -> None:
    shared = swarm.share("once.bin")
    await add(client, shared)

    with pytest.raises(ClientRefused, match=r"already has this download, as 'once\.bin'"):
        await add(client, shared)
    with pytest.raises(ClientRefused, match="already"):
        await client.add(Magnet(shared.magnet), title="", category=None)


async def test_an_invalid_torrent_is_refused(client: DownloadClient) -> None:
    for source, why in (
        (TorrentFile(b"<html>not found</html>"), "not a torrent file"),
        (Magnet("magnet:?xt=urn:btih:abc"), "not an infohash"),
        (NzbFile(b"<nzb/>", "a"), "usenet"),
    ):
        with pytest.raises(ClientRefused, match=why):
            await client.add(source, title="", category=None)


async def test_a_refusal_by_the_client_has_its_message(
    client: DownloadClient,
) -> None:
    one_piece_for_two = {
        b"length": 32768,
        b"name": b"short.bin",
        b"piece length": 16384,
        b"pieces": bytes(20),
    }
    content = bencode2.bencode({b"info": one_piece_for_two})

    with pytest.raises(ClientRefused, match=r"(refused|reported).*torrent file"):
        await client.add(TorrentFile(content), title="", category=None)


@pytest.mark.parametrize("item", [NOWHERE, ItemId("all"), ItemId(f"{NOWHERE}|all"), ItemId("")])
async def test_a_command_for_an_unknown_download_is_refused(
    client: DownloadClient, swarm: Swarm, view: View, item: ItemId
) -> None:
    there = await add(client, swarm.share(rate=1))
    await view.until(there, lambda status: status.phase is Phase.DOWNLOADING)

    for command in (client.pause, client.resume):
        with pytest.raises(ClientRefused, match="has no download"):
            await command(item)

    assert (await view.until(there, lambda _: True)).phase is Phase.DOWNLOADING


async def test_a_keyword_for_all_downloads_removes_nothing(
    client: DownloadClient, swarm: Swarm, view: View
) -> None:
    there = await add(client, swarm.share())

    with pytest.raises(ClientRefused):
        await client.remove(ItemId("all"), delete_files=True)
    await client.remove(NOWHERE, delete_files=True)  # gone already: no error

    await view.until(there, lambda _: True)


@pytest.mark.parametrize("shared_daemon", WITH_PASSWORD, indirect=True)
async def test_a_wrong_password_is_reported_and_tried_once(daemon: Daemon) -> None:
    async with daemon.settings(password="not this one").connect() as stranger:
        with pytest.raises(ClientUnavailable, match="refused") as refused:
            await stranger.observe()
        assert refused.value.reason == "authentication"

        with pytest.raises(ClientUnavailable, match="not tried again for") as again:
            await stranger.version()
        assert again.value.reason == "authentication"


async def test_an_unwritable_directory_is_a_failure_with_its_reason(
    client: DownloadClient, daemon: Daemon, swarm: Swarm, view: View
) -> None:
    aside = daemon.downloads.rename(daemon.home / "aside")
    daemon.downloads.write_bytes(b"a file where the directory should be")
    try:
        item = await add(client, swarm.share())
        failed = await view.until(item, lambda status: status.phase is Phase.FAILED, within=45)
    finally:
        daemon.downloads.unlink()
        aside.rename(daemon.downloads)

    assert failed.reason == "not_writable"
    assert any(words in (failed.message or "") for words in daemon.not_writable)

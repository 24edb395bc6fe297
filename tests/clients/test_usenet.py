"""What every usenet client must do, asked of the real ones, with a news server in the test.

NZBGet is in Debian. SABnzbd is not in Debian main: it is asked here only where ``sabnzbdplus`` is
installed; ``test_sabnzbd_recorded`` does what can be done without.
"""

import asyncio
import base64
import bz2
import codecs
import gzip
import random
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mediabus.schemas.status import DownloadStatus, ItemId, Phase
from mediabus.service.clients.nzbget.session import NzbGet
from mediabus.service.clients.port import (
    ClientRefused,
    ClientUnavailable,
    DownloadClient,
    NzbFile,
    Snapshot,
    TorrentFile,
)
from tests.clients.conftest import View
from tests.support import nntp, nzbget_daemon, sabnzbd_daemon
from tests.support.daemons import needed
from tests.support.eventually import eventually
from tests.support.nntp import NewsServer, Post
from tests.support.usenet_daemon import UsenetDaemon

KINDS: dict[str, type[UsenetDaemon]] = {"nzbget": nzbget_daemon.NzbGet}
if shutil.which(sabnzbd_daemon.Sabnzbd.program):
    KINDS["sabnzbd"] = sabnzbd_daemon.Sabnzbd
REFUSING = sorted(kind for kind, daemon in KINDS.items() if daemon.refuses_the_same_again)
NOT_THERE = [ItemId("999999"), ItemId("all"), ItemId("1,2"), ItemId("")]


@pytest.fixture(scope="module", params=sorted(KINDS))
def shared_daemon(request: pytest.FixtureRequest) -> Iterator[UsenetDaemon]:
    with KINDS[request.param].started() as running:
        yield running


@pytest.fixture
async def news(shared_daemon: UsenetDaemon) -> AsyncIterator[NewsServer]:
    async with nntp.news_server(shared_daemon.news_port) as running:
        yield running


@pytest.fixture
async def daemon(shared_daemon: UsenetDaemon, news: NewsServer) -> AsyncIterator[UsenetDaemon]:
    """Running, and emptied after the test, while its news server still answers.

    Without an answer between two tests, it would wait before its next request.
    """
    async with shared_daemon.settings().connect() as client:
        await shared_daemon.unblock(client)
    yield shared_daemon
    news.release()
    async with shared_daemon.settings().connect() as client:
        await eventually(lambda: emptied(client), within=20)


async def emptied(client: DownloadClient) -> bool:
    seen = await client.observe()
    assert isinstance(seen, Snapshot)
    for status in seen.items:
        for delete_files in (True, False):
            try:
                await client.remove(status.item, delete_files=delete_files)
            except ClientRefused:
                continue  # NZBGet deletes the files of some and keeps those of others
            break
    return not seen.items


async def add(client: DownloadClient, post: Post, *, category: str | None = None) -> ItemId:
    return await client.add(NzbFile(post.nzb, post.name), title="", category=category)


def is_midway(status: DownloadStatus) -> bool:
    return status.phase is Phase.DOWNLOADING and status.downloaded > 0


def is_over(status: DownloadStatus) -> bool:
    return status.phase in (Phase.COMPLETED, Phase.FAILED)


async def test_it_reports_its_version(client: DownloadClient) -> None:
    assert re.fullmatch(r"\d+\.\d+[\w.-]*", await client.version())


async def test_a_download_is_seen_from_its_start_to_the_last_byte(
    client: DownloadClient, news: NewsServer, view: View
) -> None:
    post = news.post("a film", files={"a film.mkv": random.randbytes(2 << 20)})
    news.hold(after=10)

    item = await add(client, post)

    midway = await view.until(item, lambda status: 0.2 < status.progress < 1)
    assert midway.phase is Phase.DOWNLOADING
    assert (midway.title, midway.save_path) == ("a film", None)
    assert 0 < midway.downloaded < (midway.size or 0)
    news.release()
    done = await view.until(item, is_over, within=30)
    assert (done.phase, done.progress, done.message) == (Phase.COMPLETED, 1.0, None)
    assert done.downloaded == done.size
    assert done.save_path is not None
    assert (Path(done.save_path) / "a film.mkv").read_bytes() == post.files[0].payload


async def test_post_processing_is_not_completion(
    client: DownloadClient, news: NewsServer, view: View
) -> None:
    item = await add(client, news.post("b.bin"))
    phases = []

    def watched(status: DownloadStatus) -> bool:
        phases.append(status.phase)
        return is_over(status)

    done = await view.until(item, watched, within=30, every=0)

    # It may end between two polls: then no status came before the file was in its place.
    assert phases.index(Phase.COMPLETED) == len(phases) - 1
    assert Phase.FAILED not in phases
    assert (Path(done.save_path or "") / "b.bin").exists()


async def test_a_pause_and_a_resume_are_seen(
    client: DownloadClient, news: NewsServer, view: View
) -> None:
    news.hold(after=3)
    item = await add(client, news.post("c.bin"))
    await view.until(item, is_midway)

    await client.pause(item)
    await view.until(item, lambda status: status.phase is Phase.PAUSED)
    await client.pause(item)  # does not fail

    await client.resume(item)
    await view.until(item, lambda status: status.phase is Phase.DOWNLOADING, within=20)
    await client.resume(item)  # does not fail
    news.release()
    await view.until(item, lambda status: status.phase is Phase.COMPLETED, within=30)


async def test_a_pause_of_the_whole_client_is_a_pause_of_each_download(
    client: DownloadClient, daemon: UsenetDaemon, news: NewsServer, view: View
) -> None:
    news.hold(after=3)
    item = await add(client, news.post("d.bin"))
    await view.until(item, is_midway)

    await daemon.pause_all(client, pause=True)
    try:
        await view.until(item, lambda status: status.phase is Phase.PAUSED)
        with pytest.raises(ClientRefused, match=r"The whole of .* is paused"):
            await client.resume(item)
    finally:
        await daemon.pause_all(client, pause=False)

    await view.until(item, lambda status: status.phase is Phase.DOWNLOADING, within=20)


async def test_a_pause_by_another_program_is_seen(
    client: DownloadClient, daemon: UsenetDaemon, news: NewsServer, view: View
) -> None:
    news.hold(after=3)
    item = await add(client, news.post("w.bin"))
    await view.until(item, is_midway)

    async with daemon.settings().connect() as another:
        await another.pause(item)
        await view.until(item, lambda status: status.phase is Phase.PAUSED)
        await another.resume(item)
        await view.until(item, lambda status: status.phase is Phase.DOWNLOADING, within=20)


@pytest.mark.parametrize("finished", [False, True])
async def test_a_download_removed_by_another_program_is_gone(
    client: DownloadClient, daemon: UsenetDaemon, news: NewsServer, view: View, *, finished: bool
) -> None:
    if not finished:
        news.hold(after=3)
    item = await add(client, news.post(f"x {finished}.bin"))
    kept = await add(client, news.post(f"kept {finished}.bin"))
    await view.until(item, is_over if finished else is_midway, within=30)

    async with daemon.settings().connect() as another:
        await another.remove(item, delete_files=False)

    await eventually(lambda: gone(view, item))
    assert list(view.items) == [kept]


@pytest.mark.parametrize("delete_files", [False, True])
async def test_an_unfinished_download_is_removed_and_stays_so(
    client: DownloadClient, news: NewsServer, view: View, *, delete_files: bool
) -> None:
    news.hold(after=3)
    item = await add(client, news.post(f"e {delete_files}.bin"))
    await view.until(item, is_midway)

    await client.remove(item, delete_files=delete_files)

    await eventually(lambda: gone(view, item))
    news.release()
    await client.remove(item, delete_files=delete_files)  # does not fail
    assert await gone(view, item)
    with pytest.raises(ClientRefused, match="has no download"):
        await client.resume(item)


async def gone(view: View, item: ItemId) -> bool:
    await view.refresh()
    return item not in view.items


async def test_a_removal_without_files_keeps_them(
    client: DownloadClient, news: NewsServer, view: View
) -> None:
    item = await add(client, news.post("f.bin"))
    done = await view.until(item, is_over, within=30)

    await client.remove(item, delete_files=False)

    assert await gone(view, item)
    assert (Path(done.save_path or "") / "f.bin").exists()


async def test_a_refused_removal_with_files_has_the_reason(
    client: DownloadClient, news: NewsServer, view: View
) -> None:
    item = await add(client, news.post("g.bin"))
    done = await view.until(item, is_over, within=30)

    with pytest.raises(ClientRefused, match="does not delete the files"):
        await client.remove(item, delete_files=True)

    assert (Path(done.save_path or "") / "g.bin").exists()
    assert not await gone(view, item)


async def test_a_finished_download_cannot_be_paused(
    client: DownloadClient, news: NewsServer, view: View
) -> None:
    item = await add(client, news.post("h.bin", size=1000))
    await view.until(item, is_over, within=30)

    for command in (client.pause, client.resume):
        with pytest.raises(ClientRefused, match="already finished"):
            await command(item)


async def test_many_missing_articles_are_a_failure_with_that_reason(
    client: DownloadClient, news: NewsServer, view: View
) -> None:
    post = news.post("i.bin", size=2 << 20)
    news.missing |= set(post.articles[5:20])

    item = await add(client, post)

    failed = await view.until(item, is_over, within=60)
    assert (failed.phase, failed.reason) == (Phase.FAILED, "missing_articles")
    assert failed.message


async def test_a_missing_article_without_repair_data_is_reported(
    client: DownloadClient, daemon: UsenetDaemon, news: NewsServer, view: View
) -> None:
    post = news.post("j.bin", size=4 << 20)
    news.missing.add(post.articles[7])

    item = await add(client, post)

    ended = await view.until(item, is_over, within=60)
    phase, words = daemon.one_article_missing
    assert ended.phase is phase
    assert ended.reason == ("missing_articles" if phase is Phase.FAILED else None)
    assert words in (ended.message or ended.warning or "")


def locked_archive(directory: Path) -> bytes:
    (directory / "secret.bin").write_bytes(random.randbytes(1000))
    command = [needed("7z"), "a", "-psesame", "secret.7z", "secret.bin"]
    subprocess.run(command, cwd=directory, check=True, stdout=subprocess.DEVNULL)
    return (directory / "secret.7z").read_bytes()


async def test_an_archive_with_a_password_fails_with_that_reason(
    client: DownloadClient, news: NewsServer, view: View, tmp_path: Path
) -> None:
    archive = await asyncio.to_thread(locked_archive, tmp_path)

    item = await add(client, news.post("secret", files={"secret.7z": archive}))

    failed = await view.until(item, is_over, within=60)
    assert (failed.phase, failed.reason) == (Phase.FAILED, "password")
    assert "password" in (failed.message or "").lower()


async def test_an_unwritable_directory_is_a_failure_with_its_reason(
    client: DownloadClient, daemon: UsenetDaemon, news: NewsServer, view: View
) -> None:
    aside = daemon.downloads.rename(daemon.home / "aside")
    daemon.downloads.write_bytes(b"a file where the directory should be")
    try:
        item = await add(client, news.post("k.bin", size=1000))
        failed = await view.until(item, is_over, within=60)
    finally:
        daemon.downloads.unlink()
        aside.rename(daemon.downloads)

    assert (failed.phase, failed.reason) == (Phase.FAILED, "not_writable")


async def test_an_unreachable_news_server_is_not_a_failure(
    client: DownloadClient, news: NewsServer, view: View
) -> None:
    await news.stop()
    item = await add(client, news.post("l.bin"))

    stuck = await view.until(item, lambda it: "127.0.0.1" in (it.message or ""), within=30)

    assert stuck.phase in (Phase.DOWNLOADING, Phase.QUEUED)
    await news.start()
    done = await view.until(item, is_over, within=60)
    assert (done.phase, done.message) == (Phase.COMPLETED, None)


async def test_a_refused_account_is_shown_and_not_a_failure(
    client: DownloadClient, daemon: UsenetDaemon, news: NewsServer, view: View
) -> None:
    news.password = "another"

    item = await add(client, news.post("m.bin"))

    stuck = await view.until(item, lambda it: "481" in (it.message or ""), within=30)
    assert stuck.phase in (Phase.DOWNLOADING, Phase.QUEUED)
    await daemon.unblock(client)


async def test_a_silent_news_server_is_neither_failure_nor_progress(
    client: DownloadClient, news: NewsServer, view: View
) -> None:
    news.hold(after=3)
    item = await add(client, news.post("n.bin"))
    held = await view.until(item, is_midway)

    for _ in range(3):
        await view.refresh()
        assert view.items[item].phase is Phase.DOWNLOADING
    assert view.items[item].downloaded <= held.downloaded + 3 * nntp.ARTICLE


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_a_client_killed_during_a_download_continues_it(kind: str) -> None:
    with KINDS[kind].started() as daemon:
        async with (
            nntp.news_server(daemon.news_port) as news,
            daemon.settings().connect() as client,
        ):
            await killed_and_back(daemon, news, View(client))


async def killed_and_back(daemon: UsenetDaemon, news: NewsServer, view: View) -> None:
    post = news.post("o.bin", size=2 << 20)
    news.hold(after=10)
    item = await add(view.client, post)
    await view.until(item, is_midway)
    await eventually(lambda: daemon.keeps(item))

    daemon.kill()

    with pytest.raises(ClientUnavailable) as away:
        await view.client.observe()
    assert away.value.reason == "connection"
    daemon.start()
    back = await view.refresh()
    assert isinstance(back, Snapshot)
    assert back.restarted
    assert list(view.items) == [item]
    news.release()
    done = await view.until(item, is_over, within=60)
    assert done.phase is Phase.COMPLETED
    assert (Path(done.save_path or "") / "o.bin").read_bytes() == post.files[0].payload


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Ünï 日本語 & it's 100%.mkv", "Ünï 日本語 & it's 100%.mkv"),
        ("a/b\\..\\c", "a_b_.._c"),
        (".hidden", "hidden"),
        ("x" * 300, "x" * 200),
    ],
)
async def test_a_hostile_name_becomes_a_folder(
    client: DownloadClient, news: NewsServer, view: View, name: str, shown: str
) -> None:
    post = news.post("p.bin", size=1000)

    item = await client.add(NzbFile(post.nzb, name), title="", category=None)

    done = await view.until(item, is_over, within=30)
    assert (done.title, Path(done.save_path or "").name) == (shown, shown)
    assert (Path(done.save_path or "") / "p.bin").exists()


async def test_a_folder_with_unsupported_characters_is_found(
    client: DownloadClient, news: NewsServer, view: View
) -> None:
    post = news.post("q.bin", size=1000)

    item = await client.add(NzbFile(post.nzb, '🎬 "q" <b>'), title="", category=None)

    done = await view.until(item, is_over, within=30)
    assert (Path(done.save_path or "") / "q.bin").exists()


@pytest.mark.parametrize("shared_daemon", ["nzbget"], indirect=True)
async def test_a_name_that_is_not_text_hides_no_download(
    client: DownloadClient, news: NewsServer, view: View
) -> None:
    """As a file in its watched folder may have it, from a machine that still writes cp1252."""
    assert isinstance(client, NzbGet)
    post, other = news.post("u.bin", size=1000), news.post("v.bin", size=1000)
    item = await add(client, other)
    terms = b'", "", 0, false, false, "", 0, "ALL"]}'
    call = b'{"method": "append", "params": ["100\x80.nzb", "' + base64.b64encode(post.nzb) + terms

    await client._rpc._http.call("POST", "", data=call)

    await view.until(item, is_over, within=30)
    assert "100\N{REPLACEMENT CHARACTER}" in {status.title for status in view.items.values()}


def in_utf16(nzb: bytes) -> bytes:
    return nzb.decode().replace("UTF-8", "UTF-16").replace("utf-8", "utf-16").encode("utf-16")


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "utf-16": in_utf16,
    "byte order mark": lambda nzb: codecs.BOM_UTF8 + nzb,
}


@pytest.mark.parametrize("form", FORMS)
async def test_an_nzb_of_another_form_is_downloaded(
    client: DownloadClient, news: NewsServer, view: View, form: str
) -> None:
    post = news.post(f"form {form}.bin", size=1000)

    item = await client.add(NzbFile(FORMS[form](post.nzb), "form"), title="", category=None)

    done = await view.until(item, is_over, within=30)
    assert (done.phase, done.title) == (Phase.COMPLETED, "form")
    assert (Path(done.save_path or "") / f"form {form}.bin").exists()


def prefixed(nzb: bytes) -> bytes:
    """With ``ns0:`` before each name, as Python's ElementTree writes it."""
    return ElementTree.tostring(ElementTree.fromstring(nzb))


async def test_an_nzb_with_namespace_prefixes_is_the_client_s_to_judge(
    client: DownloadClient, news: NewsServer, view: View
) -> None:
    post = news.post("prefixed.bin", size=1000)
    assert b"<ns0:segment" in prefixed(post.nzb)

    try:
        item = await client.add(NzbFile(prefixed(post.nzb), "p"), title="", category=None)
    except ClientRefused as refusal:
        assert "FAILURE/SCAN" in str(refusal)  # noqa: PT017 - one of two ways
        return

    assert (await view.until(item, is_over, within=30)).phase is Phase.COMPLETED


class Crowded(nzbget_daemon.NzbGet):
    """Its disk has less room than it is set to want."""

    def configure(self) -> None:
        super().configure()
        path = self.home / "nzbget.conf"
        path.write_text(path.read_text().replace("DiskSpace=0", "DiskSpace=99999999"))


async def test_a_pause_for_want_of_room_is_the_client_s() -> None:
    with Crowded.started() as daemon:
        async with (
            nntp.news_server(daemon.news_port) as news,
            daemon.settings().connect() as client,
        ):
            news.hold(after=3)
            item = await add(client, news.post("crowded.bin"))
            view = View(client)

            held = await view.until(item, lambda it: it.by_client, within=20)
            assert held.phase is Phase.PAUSED
            assert "its setting DiskSpace is 99999999 MB" in (held.message or "")

            await client.pause(item)
            paused = await view.until(item, lambda it: not it.by_client)
            assert paused.phase is Phase.PAUSED


async def test_the_title_names_what_has_no_name(
    client: DownloadClient, news: NewsServer, view: View
) -> None:
    post = news.post("r.bin", size=1000)

    item = await client.add(NzbFile(post.nzb, ""), title="Dune (2021)", category=None)

    assert (await view.until(item, lambda _: True)).title == "Dune (2021)"


async def test_a_category_is_kept(client: DownloadClient, news: NewsServer, view: View) -> None:
    item = await add(client, news.post("s.bin", size=1000), category="tv")

    done = await view.until(item, is_over, within=30)

    assert done.category == "tv"
    assert Path(done.save_path or "").parent.name == "tv"


@pytest.mark.parametrize("shared_daemon", REFUSING, indirect=True)
async def test_a_duplicate_is_refused_without_traces(
    client: DownloadClient, news: NewsServer, view: View
) -> None:
    news.hold()
    post = news.post("t.bin")
    item = await add(client, post)

    with pytest.raises(ClientRefused, match=r"(?i)duplicate"):
        await client.add(NzbFile(post.nzb, "another name"), title="", category=None)

    await view.refresh()
    assert list(view.items) == [item]


async def test_a_file_that_is_not_an_nzb_is_refused_without_traces(
    client: DownloadClient, daemon: UsenetDaemon, view: View
) -> None:
    assert daemon.running
    for source, why in (
        (NzbFile(b"<html>not found</html>", "a"), "names no articles"),
        (NzbFile(b"", "a"), "names no articles"),
        (NzbFile(b"<nzb><file><segments><segment>torn", "a"), "refused"),
        (TorrentFile(b"d4:infod4:name1:aee"), "torrent client"),
    ):
        with pytest.raises(ClientRefused, match=why):
            await client.add(source, title="", category=None)

    await view.refresh()
    assert not view.items


@pytest.mark.parametrize("item", NOT_THERE)
async def test_a_command_for_an_unknown_download_is_refused(
    client: DownloadClient, news: NewsServer, view: View, item: ItemId
) -> None:
    news.hold(after=1)
    there = await add(client, news.post("u.bin"))

    for command in (client.pause, client.resume):
        with pytest.raises(ClientRefused, match="has no download"):
            await command(item)

    assert (await view.until(there, lambda _: True)).phase is not Phase.PAUSED


async def test_a_wrong_password_is_reported_and_tried_once(daemon: UsenetDaemon) -> None:
    async with daemon.settings(password="not this one").connect() as stranger:
        with pytest.raises(ClientUnavailable, match="refused") as refused:
            await stranger.observe()
        assert refused.value.reason == "authentication"

        with pytest.raises(ClientUnavailable, match="not tried again for") as again:
            await stranger.observe()
        assert again.value.reason == "authentication"

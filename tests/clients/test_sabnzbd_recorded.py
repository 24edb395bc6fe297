"""What SABnzbd says, as recorded from 5.0.0RC3, served again by a small web server.

This is not SABnzbd: Debian main does not have it, so that it cannot be installed wherever these
tests run. Where ``sabnzbdplus`` is there, ``test_usenet`` asks the real one. What could not be
provoked there (Grabbing, Propagating, Checking, a full disk) is spelled as in its API's wiki page.
"""

from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web
from aiohttp.web_request import FileField

from schemas.status import DownloadStatus, FailureReason, ItemId, Phase
from service.clients.port import (
    ClientRefused,
    ClientUnavailable,
    DownloadClient,
    NzbFile,
    Snapshot,
    TorrentFile,
)
from service.clients.sabnzbd import SabnzbdSettings

KEY = "0123456789abcdef0123456789abcdef"
ITEM = ItemId("SABnzbd_nzo_7rtivt46")
NZB = NzbFile(b"<nzb><file><segments><segment/></segments></file></nzb>", "Dune/2021")


def slot(item: str = ITEM, status: str = "Downloading", **changed: object) -> dict[str, object]:
    recorded: dict[str, object] = {
        "index": 0,
        "nzo_id": item,
        "unpackopts": "3",
        "priority": "Normal",
        "script": "None",
        "filename": "Ünï _q_ <b> it's & 100%.mkv",
        "labels": [],
        "password": "",
        "cat": "tv",
        "mbleft": "1.69",
        "mb": "2.00",
        "size": "2.0 MB",
        "sizeleft": "1.7 MB",
        "percentage": "15",
        "mbmissing": "0.00",
        "direct_unpack": None,
        "status": status,
        "timeleft": "0:01:10",
        "avg_age": "1103d",
        "time_added": 1795357320,
    }
    return recorded | changed


def entry(item: str = ITEM, status: str = "Completed", **changed: object) -> dict[str, object]:
    recorded: dict[str, object] = {
        "completed": 1795357334,
        "name": "c",
        "nzb_name": "c.nzb",
        "category": "*",
        "pp": "D",
        "script": "None",
        "report": "",
        "url": None,
        "status": status,
        "nzo_id": item,
        "storage": "/downloads/c/c.bin",
        "path": "/incomplete/c",
        "script_line": "",
        "download_time": 0,
        "postproc_time": 0,
        "stage_log": [
            {"name": "Source", "actions": ["c.nzb"]},
            {"name": "Download", "actions": ["Downloaded in 0 seconds<br/>Age: 1103d<br/>"]},
            {"name": "Servers", "actions": ["127.0.0.1=4.1 MB"]},
            {"name": "Repair", "actions": ["Trying RAR renamer", "[c] No par2 sets"]},
        ],
        "downloaded": 4128768,
        "completeness": None,
        "fail_message": "",
        "url_info": "",
        "bytes": 4128768,
        "meta": None,
        "series": None,
        "md5sum": "6dbfc955d354267067a176b438d0f2f3",
        "password": None,
        "duplicate_key": None,
        "archive": False,
        "time_added": 1795357329,
        "size": "3.9 MB",
        "action_line": "",
        "loaded": False,
        "retry": False,
    }
    return recorded | changed


class Recorded:
    """Answers as SABnzbd did; ``asked`` has the parameters of every call, without the key."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.slots: list[dict[str, object]] = []
        self.entries: list[dict[str, object]] = []
        self.updates = 1
        self.paused = False
        self.away = False
        self.warnings: list[dict[str, object]] = []
        self.server = {"serverwarning": "", "servererror": ""}
        self.done: dict[str, object] = {"status": True, "nzo_ids": [ITEM]}

    async def answer(self, request: web.Request) -> web.Response:
        assert not request.query_string  # where logs would show the key
        assert request.path == "/sabnzbd/api"
        if self.away:
            return web.Response(status=502)
        asked = {}
        for name, value in (await request.post()).items():
            asked[name] = value.file.read().decode() if isinstance(value, FileField) else str(value)
        if asked.pop("apikey") != KEY:
            return web.Response(status=403, text="API Key Incorrect", content_type="text/html")
        self.asked.append(asked)
        return web.json_response(self._reply(asked))

    def _reply(self, asked: dict[str, str]) -> dict[str, object]:
        if "name" in asked:
            return self.done
        replies: dict[str, Callable[[], dict[str, object]]] = {
            "version": lambda: {"version": "5.0.0RC3"},
            "queue": lambda: {"queue": self._queue()},
            "history": lambda: {"history": self._history(asked)},
            "warnings": lambda: {"warnings": self.warnings},
            "status": lambda: {"status": {"servers": [self.server]}},
        }
        return replies[asked["mode"]]()

    def _queue(self) -> dict[str, object]:
        return {
            "version": "5.0.0RC3",
            "paused": self.paused,
            "have_warnings": str(len(self.warnings)),
            "kbpersec": "164.41",
            "mbleft": "1.69",
            "mb": "2.00",
            "noofslots_total": len(self.slots),
            "status": "Paused" if self.paused else "Downloading",
            "timeleft": "0:00:10",
            "slots": self.slots,
        }

    def _history(self, asked: dict[str, str]) -> dict[str, object] | bool:
        if asked["last_history_update"] == str(self.updates):
            return False
        wanted = asked["nzo_ids"]
        shown = [it for it in self.entries if not wanted or it["nzo_id"] == wanted]
        return {
            "total_size": "331 K",
            "slots": shown[: int(asked.get("limit", "10"))],
            "noofslots": len(self.entries),
            "last_history_update": self.updates,
            "version": "5.0.0RC3",
        }


@pytest.fixture
def sabnzbd() -> Recorded:
    return Recorded()


@pytest.fixture
async def url(sabnzbd: Recorded) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", sabnzbd.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/sabnzbd/"
    await runner.cleanup()


@pytest.fixture
async def client(url: str) -> AsyncIterator[DownloadClient]:
    async with SabnzbdSettings(name="sab", url=url, password=KEY).connect() as session:
        yield session


async def seen_by(client: DownloadClient) -> list[DownloadStatus]:
    seen = await client.observe()
    assert isinstance(seen, Snapshot)
    return list(seen.items)


async def test_one_that_was_away_counts_as_started_anew_once(
    client: DownloadClient, sabnzbd: Recorded
) -> None:
    sabnzbd.away = True
    with pytest.raises(ClientUnavailable):
        await client.observe()
    sabnzbd.away = False
    assert await client.observe() == Snapshot([], restarted=False)  # it was not known before
    sabnzbd.away = True
    with pytest.raises(ClientUnavailable):
        await client.observe()
    sabnzbd.away = False
    assert await client.observe() == Snapshot([], restarted=True)
    assert await client.observe() == Snapshot([], restarted=False)


async def test_the_queue_is_downloaded_in_its_order(
    client: DownloadClient, sabnzbd: Recorded
) -> None:
    sabnzbd.slots = [slot("SABnzbd_nzo_1"), slot("SABnzbd_nzo_2"), slot("SABnzbd_nzo_3")]

    first, *others = await seen_by(client)

    assert first.phase is Phase.DOWNLOADING
    assert (first.size, first.downloaded) == (2 << 20, (2 << 20) - round(1.69 * (1 << 20)))
    assert first.progress == pytest.approx(0.155, abs=1e-3)
    assert (first.download_rate, first.eta) == (round(164.41 * 1024), 70)
    assert (first.title, first.category) == ("Ünï _q_ <b> it's & 100%.mkv", "tv")
    assert [it.phase for it in others] == [Phase.QUEUED, Phase.QUEUED]
    assert [it.client_state for it in others] == ["Downloading", "Downloading"]


async def test_what_grows_is_downloaded_wherever_it_stands(
    client: DownloadClient, sabnzbd: Recorded
) -> None:
    sabnzbd.slots = [slot("SABnzbd_nzo_1"), slot("SABnzbd_nzo_2")]
    await seen_by(client)

    sabnzbd.slots[1] = slot("SABnzbd_nzo_2", mbleft="1.60")

    assert [it.phase for it in await seen_by(client)] == [Phase.DOWNLOADING, Phase.DOWNLOADING]


async def test_a_pause_of_all_is_a_pause_of_each_but_the_forced(
    client: DownloadClient, sabnzbd: Recorded
) -> None:
    forced = slot("SABnzbd_nzo_2", priority="Force")
    sabnzbd.paused, sabnzbd.slots = True, [slot(status="Queued"), forced]

    assert [it.phase for it in await seen_by(client)] == [Phase.PAUSED, Phase.DOWNLOADING]
    with pytest.raises(ClientRefused, match="as a whole is paused"):
        await client.resume(ITEM)
    await client.resume(ItemId("SABnzbd_nzo_2"))


async def test_a_disk_that_is_full_is_a_pause_that_says_why(
    client: DownloadClient, sabnzbd: Recorded
) -> None:
    sabnzbd.paused, sabnzbd.slots = True, [slot(status="Queued")]
    sabnzbd.warnings = [{"type": "WARNING", "text": "Disk full! Forcing Pause", "time": 1}]

    (paused,) = await seen_by(client)

    assert (paused.phase, paused.reason) == (Phase.PAUSED, None)
    assert paused.message == "Disk full! Forcing Pause"


@pytest.mark.parametrize("which", ["servererror", "serverwarning"])
async def test_a_news_server_in_trouble_is_shown_when_nothing_arrives(
    client: DownloadClient, sabnzbd: Recorded, which: str
) -> None:
    sabnzbd.slots = [slot()]
    sabnzbd.server[which] = "Failed login for server news [481 wrong]"
    assert (await seen_by(client))[0].message is None

    (stuck,) = await seen_by(client)

    assert (stuck.phase, stuck.message) == (Phase.DOWNLOADING, sabnzbd.server[which])


async def test_an_unchanged_history_is_kept_and_a_changed_one_taken(
    client: DownloadClient, sabnzbd: Recorded
) -> None:
    sabnzbd.entries = [entry(f"SABnzbd_nzo_{number}") for number in range(30)]
    assert len(await seen_by(client)) == 30
    assert sabnzbd.asked[-1]["last_history_update"] == "0"

    assert len(await seen_by(client)) == 30
    assert sabnzbd.asked[-1]["last_history_update"] == "1"

    sabnzbd.entries, sabnzbd.updates = sabnzbd.entries[1:], 2
    assert len(await seen_by(client)) == 29


async def test_an_entry_in_neither_list_is_looked_for_again(
    client: DownloadClient, sabnzbd: Recorded
) -> None:
    """The history's number, as after a restart, is the one that we have."""
    sabnzbd.slots = [slot()]
    await seen_by(client)

    sabnzbd.slots, sabnzbd.entries = [], [entry(status="Queued", storage="")]

    (found,) = await seen_by(client)
    assert (found.item, found.phase) == (ITEM, Phase.PROCESSING)


async def test_what_articles_lack_is_said_of_a_completed_download(
    client: DownloadClient, sabnzbd: Recorded
) -> None:
    lost = {"name": "Download", "actions": ["Age: 1103d<br/>1 articles were missing"]}
    fixed = {"name": "Repair", "actions": ["[c] Repaired in 3 seconds"]}
    sabnzbd.entries = [
        entry("SABnzbd_nzo_1", stage_log=[lost]),
        entry("SABnzbd_nzo_2", stage_log=[lost, fixed]),
    ]

    damaged, repaired = await seen_by(client)

    assert (damaged.phase, damaged.warning) == (Phase.COMPLETED, "1 articles were missing")
    assert (repaired.phase, repaired.warning) == (Phase.COMPLETED, None)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("Aborted, cannot be completed - https://sabnzbd.org/not-complete", "missing_articles"),
        ("Unpacking failed, archive requires a password", "password"),
        ("Aborted, encryption detected", "password"),
        ("Unpacking failed, CRC error", "unpack"),
        ("Unpacking failed, see logfile", "unpack"),
        ("Unpacking failed, write error or disk is full?", "disk_full"),
        ("Repair failed, not enough repair blocks (12 short)", "missing_articles"),
        ("URL Fetching failed; File not on server", "client_error"),
        ("Duplicate NZB", "rejected"),
    ],
)
async def test_a_failure_has_its_reason(
    client: DownloadClient, sabnzbd: Recorded, words: str, reason: FailureReason
) -> None:
    sabnzbd.entries = [entry(status="Failed", fail_message=words)]

    (failed,) = await seen_by(client)

    assert (failed.phase, failed.reason, failed.message) == (Phase.FAILED, reason, words)


async def test_a_failure_that_says_little_is_explained_by_the_warnings_of_its_time(
    client: DownloadClient, sabnzbd: Recorded
) -> None:
    sabnzbd.entries = [entry(status="Failed", fail_message="Post-processing was aborted")]
    sabnzbd.warnings = [
        {"text": "Cannot create final folder /downloads/c", "time": 1795350000},
        {"text": "Post Processing Failed for another (see logfile)", "time": 1795357330},
        {"text": "Cannot create final folder /downloads/c\nTraceback", "time": 1795357330},
    ]

    for _ in range(2):
        (failed,) = await seen_by(client)
        assert failed.reason == "not_writable"
        assert failed.message == (
            "Post-processing was aborted; Cannot create final folder /downloads/c"
        )
    assert [asked["mode"] for asked in sabnzbd.asked].count("warnings") == 1


async def test_an_nzb_is_handed_over_with_its_name_and_category(
    client: DownloadClient, sabnzbd: Recorded
) -> None:
    assert await client.add(NZB, title="", category="tv") == ITEM

    asked = sabnzbd.asked[-1]
    assert (asked["mode"], asked["nzbname"], asked["cat"]) == ("addfile", "Dune_2021", "tv")
    assert asked["name"] == NZB.content.decode()


async def test_an_nzb_that_it_does_not_take_is_refused_in_its_words(
    client: DownloadClient, sabnzbd: Recorded
) -> None:
    sabnzbd.done = {"status": False, "nzo_ids": []}
    sabnzbd.warnings = [{"text": "Invalid NZB file a.nzb, skipping (error: syntax)\nTraceback"}]

    with pytest.raises(ClientRefused, match=r"says no: Invalid NZB file a\.nzb, .*syntax\)$"):
        await client.add(NZB, title="", category=None)

    sabnzbd.done = {"status": False, "error": "expects one parameter"}
    with pytest.raises(ClientRefused, match="expects one parameter"):
        await client.add(NZB, title="", category=None)


async def test_what_is_no_nzb_is_not_handed_over(client: DownloadClient, sabnzbd: Recorded) -> None:
    for source in (NzbFile(b"<html/>", "a"), TorrentFile(b"d4:infod4:name1:aee")):
        with pytest.raises(ClientRefused):
            await client.add(source, title="", category=None)

    assert not sabnzbd.asked


async def test_commands_go_to_the_list_that_has_the_download(
    client: DownloadClient, sabnzbd: Recorded
) -> None:
    sabnzbd.slots, sabnzbd.entries = [slot()], [entry("SABnzbd_nzo_2", "Failed")]

    for command, name in ((client.pause, "pause"), (client.resume, "resume")):
        await command(ITEM)
        assert sabnzbd.asked[-1].items() >= {"mode": "queue", "name": name, "value": ITEM}.items()
    for item, mode, delete in ((ITEM, "queue", False), ("SABnzbd_nzo_2", "history", True)):
        await client.remove(ItemId(item), delete_files=delete)
        said = {"mode": mode, "name": "delete", "value": item, "del_files": str(int(delete))}
        assert sabnzbd.asked[-1].items() >= said.items()


async def test_what_cannot_be_done_is_refused_before_it_is_asked_for(
    client: DownloadClient, sabnzbd: Recorded
) -> None:
    sabnzbd.entries = [entry()]

    with pytest.raises(ClientRefused, match="has finished"):
        await client.pause(ITEM)
    with pytest.raises(ClientRefused, match="does not delete the files"):
        await client.remove(ITEM, delete_files=True)
    for item in ("all", "failed", f"{ITEM},{ITEM}", "SABnzbd_nzo_none", ""):
        with pytest.raises(ClientRefused, match="has no download"):
            await client.resume(ItemId(item))
    for item in ("all", "completed"):
        with pytest.raises(ClientRefused, match="has no download"):
            await client.remove(ItemId(item), delete_files=True)

    assert not [asked for asked in sabnzbd.asked if "name" in asked]


async def test_removing_what_is_gone_is_no_error(client: DownloadClient, sabnzbd: Recorded) -> None:
    await client.remove(ITEM, delete_files=True)

    assert not [asked for asked in sabnzbd.asked if "name" in asked]


async def test_a_wrong_key_is_said_and_tried_once(url: str, sabnzbd: Recorded) -> None:
    async with SabnzbdSettings(name="sab", url=url, password="another").connect() as stranger:
        for words in ("API Key Incorrect", "not tried again for"):
            with pytest.raises(ClientUnavailable, match=words) as refused:
                await stranger.observe()
            assert refused.value.reason == "authentication"
    assert not sabnzbd.asked


async def test_what_answers_otherwise_is_not_sabnzbd(
    client: DownloadClient, sabnzbd: Recorded
) -> None:
    sabnzbd.slots = [{"nzo_id": ITEM}]

    with pytest.raises(ClientUnavailable, match="does not answer as SABnzbd does") as wrong:
        await client.observe()

    assert wrong.value.reason == "protocol"


async def test_it_says_its_version(client: DownloadClient) -> None:
    assert await client.version() == "5.0.0RC3"

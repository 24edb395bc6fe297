"""What SABnzbd says, as recorded from 5.0.0RC3, served again by a small web server.

This is not SABnzbd: Debian main does not have it, so that it cannot be installed wherever these
tests run. Where ``sabnzbdplus`` is there, ``test_usenet`` asks the real one. What could not be
provoked there (Grabbing, Propagating, Checking, a full disk) is spelled as in its API's wiki page.
"""

from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web
from aiohttp.web_request import FileField

from mediabus.schemas.status import DownloadStatus, FailureReason, ItemId, Phase
from mediabus.service.clients.port import (
    ClientRefused,
    ClientUnavailable,
    DownloadClient,
    NzbFile,
    Snapshot,
    TorrentFile,
)
from mediabus.service.clients.sabnzbd import SabnzbdSettings

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
        self.other_answer: object = None
        self.other_answers: dict[str, object] = {}  # by mode
        self.misc = {"no_dupes": 0, "no_smart_dupes": 0}
        self.warns_of_an_nzb: dict[str, object] | None = None
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
        if self.other_answer is not None:
            return web.json_response(self.other_answer)
        if asked["mode"] in self.other_answers:
            return web.json_response(self.other_answers[asked["mode"]])
        return web.json_response(self._reply(asked))

    def _reply(self, asked: dict[str, str]) -> dict[str, object]:
        if "name" in asked:
            self.warnings += [self.warns_of_an_nzb] if self.warns_of_an_nzb else []
            return self.done
        replies: dict[str, Callable[[], dict[str, object]]] = {
            "version": lambda: {"version": "5.0.0RC3"},
            "queue": lambda: {"queue": self._queue()},
            "history": lambda: {"history": self._history(asked)},
            "warnings": lambda: {"warnings": self.warnings},
            "status": lambda: {"status": {"servers": [self.server]}},
            "get_config": lambda: {"config": {"misc": self.misc}},
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
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/sabnzbd/"
    finally:
        await runner.cleanup()


@pytest.fixture
async def client(url: str) -> AsyncIterator[DownloadClient]:
    async with SabnzbdSettings(name="sab", url=url, password=KEY).connect() as session:
        yield session


async def seen_by(client: DownloadClient) -> list[DownloadStatus]:
    seen = await client.observe()
    assert isinstance(seen, Snapshot)
    return list(seen.items)


async def test_an_outage_counts_as_one_restart(client: DownloadClient, sabnzbd: Recorded) -> None:
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


async def test_a_growing_entry_is_downloading_at_any_position(
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
    with pytest.raises(ClientRefused, match=r"The whole of .* is paused"):
        await client.resume(ITEM)
    await client.resume(ItemId("SABnzbd_nzo_2"))


async def test_a_full_disk_is_a_pause_with_the_reason(
    client: DownloadClient, sabnzbd: Recorded
) -> None:
    sabnzbd.paused, sabnzbd.slots = True, [slot(status="Queued")]
    sabnzbd.warnings = [{"type": "WARNING", "text": "Disk full! Forcing Pause", "time": 1}]

    (paused,) = await seen_by(client)

    assert (paused.phase, paused.reason) == (Phase.PAUSED, None)
    assert (paused.by_client, paused.message) == (True, "Disk full! Forcing Pause")


@pytest.mark.parametrize("which", ["servererror", "serverwarning"])
async def test_a_failing_news_server_is_shown_without_progress(
    client: DownloadClient, sabnzbd: Recorded, which: str
) -> None:
    sabnzbd.slots = [slot()]
    sabnzbd.server[which] = "Failed login for server news [481 wrong]"
    assert (await seen_by(client))[0].message is None

    (stuck,) = await seen_by(client)

    assert (stuck.phase, stuck.message) == (Phase.DOWNLOADING, sabnzbd.server[which])


async def test_a_history_is_requested_again_if_it_changed(
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


async def test_missing_articles_are_reported_on_a_completed_download(
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
        ("Aborted, encryption detected", "password"),
        ("Aborted, unwanted extension detected", "rejected"),
        ("Corrupt RAR file", "unpack"),
        (
            "Download failed - Not on your server(s) - https://sabnzbd.org/not-complete",
            "missing_articles",
        ),
        (
            "Download might fail, only 85.0% of required 100.2% available - https://sabnzbd.org",
            "missing_articles",
        ),
        ("Duplicate NZB", "rejected"),
        ("Failed to move files", "not_writable"),
        ("File join of a.mkv failed", "unpack"),
        ("File join of [Errno 28] No space left on device failed", "disk_full"),
        (
            "Invalid par2 files or invalid PAR2 parameters, cannot verify or repair",
            "missing_articles",
        ),
        ("No details available for recoverable file: a.mkv", "missing_articles"),
        ("Post-processing was aborted", "client_error"),
        ("Pre-queue script marked job as failed", "rejected"),
        ("RAR files failed to verify", "missing_articles"),
        ("Repair failed, not enough repair blocks (12 short)", "missing_articles"),
        ("Repairing failed, Disk full", "disk_full"),
        ("Repairing failed, Repair Failed.", "missing_articles"),
        ("Repairing failed, [Errno 13] Permission denied: '/downloads/a'", "not_writable"),
        ('Some files failed to verify against "a.sfv"', "missing_articles"),
        ("URL Fetching failed; File not on server", "client_error"),
        ("Unpacking failed, CRC error", "unpack"),
        ("Unpacking failed, [Errno 30] Read-only file system", "not_writable"),
        ("Unpacking failed, archive requires a password", "password"),
        ("Unpacking failed, disk full", "disk_full"),
        ("Unpacking failed, file too large for filesystem (FAT?)", "disk_full"),
        ("Unpacking failed, see logfile", "unpack"),
        ("Unpacking failed, unable to find a.part3.rar", "unpack"),
        ("Unpacking failed, write error or disk is full?", "disk_full"),
        ("Unpacking failed, write error or disk is full? Permission denied", "not_writable"),
        ("Unusable NZB file", "rejected"),
        ("Unusable RAR file", "unpack"),
        ("a.mkv.1 cannot be renamed to a.mkv", "not_writable"),
    ],
)
async def test_a_failure_has_its_reason(
    client: DownloadClient, sabnzbd: Recorded, words: str, reason: FailureReason
) -> None:
    sabnzbd.entries = [entry(status="Failed", fail_message=words)]

    (failed,) = await seen_by(client)

    assert (failed.phase, failed.reason, failed.message) == (Phase.FAILED, reason, words)


async def test_a_vague_failure_is_explained_by_recent_warnings(
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


async def test_an_nzb_refused_by_the_client_has_its_message(
    client: DownloadClient, sabnzbd: Recorded
) -> None:
    sabnzbd.done = {"status": False, "nzo_ids": []}
    sabnzbd.warnings = [{"type": "ERROR", "text": "Failed to connect", "time": 1}]
    torn = "Invalid NZB file a.nzb, skipping (error: syntax)\nTraceback"
    sabnzbd.warns_of_an_nzb = {"type": "WARNING", "text": torn, "time": 2}

    with pytest.raises(ClientRefused, match=r"refused: Invalid NZB file a\.nzb, .*syntax\)$"):
        await client.add(NZB, title="", category=None)

    sabnzbd.done = {"status": False, "error": "expects one parameter"}
    with pytest.raises(ClientRefused, match="expects one parameter"):
        await client.add(NZB, title="", category=None)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({}, "gives no reason; its log may have one$"),
        ({"no_dupes": 2}, "gives no reason; its log may have one$"),
        ({"no_dupes": 1}, "It is set to discard duplicates"),
        ({"no_smart_dupes": 1}, "It is set to discard duplicates"),
    ],
)
async def test_an_nzb_dropped_in_silence_is_refused(
    client: DownloadClient, sabnzbd: Recorded, setting: dict[str, int], words: str
) -> None:
    sabnzbd.done = {"status": False, "nzo_ids": []}
    sabnzbd.warnings = [{"type": "ERROR", "text": "Failed to connect", "time": 1}]
    sabnzbd.misc |= setting

    with pytest.raises(ClientRefused, match=words) as refused:
        await client.add(NZB, title="", category=None)

    assert "Failed to connect" not in str(refused.value)


async def test_a_label_that_comes_with_a_pause_is_the_client_s_pause(
    client: DownloadClient, sabnzbd: Recorded
) -> None:
    sabnzbd.slots = [
        slot("SABnzbd_nzo_1", labels=["DUPLICATE", "TOO LARGE"], status="Paused"),
        slot("SABnzbd_nzo_2", labels=["WAIT 5 sec"], status="Paused"),
        slot("SABnzbd_nzo_3", status="Paused"),
        slot("SABnzbd_nzo_4", labels=["DUPLICATE"]),
    ]

    duplicate, propagating, paused, running = await seen_by(client)

    assert (duplicate.by_client, duplicate.message) == (True, "SABnzbd says: DUPLICATE, TOO LARGE")
    assert (propagating.by_client, propagating.message) == (
        False,
        "SABnzbd says: WAIT 5 sec",
    )
    assert (paused.by_client, paused.message) == (False, None)
    assert (running.by_client, running.message) == (False, "SABnzbd says: DUPLICATE")


async def test_a_label_that_was_there_before_a_pause_is_not_its_cause(
    client: DownloadClient, sabnzbd: Recorded
) -> None:
    sabnzbd.slots = [slot(labels=["ENCRYPTED"])]
    await seen_by(client)
    sabnzbd.slots = [slot(labels=["ENCRYPTED"], status="Paused")]
    assert not (await seen_by(client))[0].by_client

    sabnzbd.slots = [slot(labels=["ENCRYPTED", "UNWANTED"], status="Paused")]

    assert (await seen_by(client))[0].by_client


async def test_warnings_are_shown_errors_first(client: DownloadClient, sabnzbd: Recorded) -> None:
    sabnzbd.slots = [slot()]
    sabnzbd.warnings = [
        {"type": "WARNING", "text": "python is old", "time": 3},
        {"type": "ERROR", "text": "no unrar\nTraceback", "time": 1, "origin": "SABnzbd.py456"},
        {"type": "ERROR", "text": "Essential modules are missing", "origin": "SABnzbd.py479"},
        {"type": "ERROR", "text": "Failed making k.bin", "time": 4, "origin": "postproc.py123"},
    ]
    words = "no unrar; Essential modules are missing"

    seen = await client.observe()
    (stuck,) = await seen_by(client)

    assert isinstance(seen, Snapshot)
    assert seen.warning == f"{words}; Failed making k.bin"
    assert (stuck.phase, stuck.message) == (Phase.DOWNLOADING, words)
    sabnzbd.warnings = []
    seen = await client.observe()
    assert isinstance(seen, Snapshot)
    assert seen.warning is None


async def test_a_file_that_is_not_an_nzb_is_not_sent(
    client: DownloadClient, sabnzbd: Recorded
) -> None:
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


async def test_an_impossible_request_is_refused_without_asking(
    client: DownloadClient, sabnzbd: Recorded
) -> None:
    sabnzbd.entries = [entry()]

    with pytest.raises(ClientRefused, match="already finished"):
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


async def test_removing_a_missing_download_is_not_an_error(
    client: DownloadClient, sabnzbd: Recorded
) -> None:
    await client.remove(ITEM, delete_files=True)

    assert not [asked for asked in sabnzbd.asked if "name" in asked]


async def test_a_wrong_key_is_reported_and_tried_once(url: str, sabnzbd: Recorded) -> None:
    async with SabnzbdSettings(name="sab", url=url, password="another").connect() as stranger:
        for words in ("API Key Incorrect", "not tried again for"):
            with pytest.raises(ClientUnavailable, match=words) as refused:
                await stranger.observe()
            assert refused.value.reason == "authentication"
    assert not sabnzbd.asked


@pytest.mark.parametrize("answer", [{"queue": {"slots": None}}, {"queue": []}, {"slots": []}, []])
async def test_a_different_program_is_a_protocol_error(
    client: DownloadClient, sabnzbd: Recorded, answer: object
) -> None:
    sabnzbd.other_answer = answer

    with pytest.raises(ClientUnavailable, match="does not answer like SABnzbd") as wrong:
        await client.observe()

    assert wrong.value.reason == "protocol"


@pytest.mark.parametrize("odd", [0, -100, "", None, [], {}, "nan", "1e999", True, 10**30, [[1]]])
@pytest.mark.parametrize(
    "field", ["filename", "status", "mb", "mbleft", "priority", "labels", "cat"]
)
async def test_an_invalid_field_of_the_queue_hides_no_download(
    client: DownloadClient, sabnzbd: Recorded, field: str, odd: object
) -> None:
    sabnzbd.slots = [slot() | {field: odd}, slot("SABnzbd_nzo_2")]

    first, second = await seen_by(client)

    assert (first.item, second.item) == (ITEM, "SABnzbd_nzo_2")
    assert second.size == 2 << 20
    await client.pause(ITEM)
    assert sabnzbd.asked[-1]["value"] == ITEM


@pytest.mark.parametrize("odd", [0, None, [], {}, "nan", True, 10**30, [[1]]])
@pytest.mark.parametrize("field", ["name", "bytes", "storage", "fail_message", "stage_log"])
async def test_an_invalid_field_of_the_history_hides_no_download(
    client: DownloadClient, sabnzbd: Recorded, field: str, odd: object
) -> None:
    sabnzbd.entries = [entry() | {field: odd}, entry("SABnzbd_nzo_2")]

    first, second = await seen_by(client)

    assert (first.item, second.item) == (ITEM, "SABnzbd_nzo_2")
    assert second.phase is Phase.COMPLETED


@pytest.mark.parametrize("odd", [None, [], {"warnings": None}, {"status": {"servers": 1}}, "text"])
@pytest.mark.parametrize("mode", ["warnings", "status", "get_config"])
async def test_an_unreadable_explanation_hides_no_download(
    client: DownloadClient, sabnzbd: Recorded, mode: str, odd: object
) -> None:
    sabnzbd.slots = [slot()]
    sabnzbd.entries = [entry("SABnzbd_nzo_2", status="Failed", name="", fail_message="odd")]
    sabnzbd.warnings = [{"type": "ERROR", "text": ""}]
    sabnzbd.other_answers = {mode: odd}

    for _ in range(2):  # a second look asks why nothing arrives
        assert [it.item for it in await seen_by(client)] == [ITEM, "SABnzbd_nzo_2"]
    assert await client.add(NZB, title="", category=None) == ITEM
    sabnzbd.done = {"status": False, "nzo_ids": []}
    with pytest.raises(ClientRefused, match="SABnzbd"):
        await client.add(NZB, title="", category=None)


@pytest.mark.parametrize("odd", [{"filename": "nobody"}, slot() | {"nzo_id": []}, None])
async def test_slot_without_an_id_makes_the_answer_unreadable(
    client: DownloadClient, sabnzbd: Recorded, odd: object
) -> None:
    """A download that is left out would look removed."""
    sabnzbd.slots = [slot(), odd]  # type: ignore[list-item]

    with pytest.raises(ClientUnavailable) as unavailable:
        await seen_by(client)

    assert unavailable.value.reason == "protocol"


@pytest.mark.parametrize("priority", ["Force", 2, "2"])
async def test_a_forced_download_is_not_paused_with_all(
    client: DownloadClient, sabnzbd: Recorded, priority: object
) -> None:
    sabnzbd.paused, sabnzbd.slots = True, [slot(priority=priority)]

    assert [it.phase for it in await seen_by(client)] == [Phase.DOWNLOADING]


@pytest.mark.parametrize(
    "item", ["SABnzbd_nzo_7rtivt46", "0b7f2c1e-4f0c-4c55-9d7a-0d1c6f0f2a11", "42", "a.b:c/d"]
)
async def test_an_id_of_any_form_names_its_download(
    client: DownloadClient, sabnzbd: Recorded, item: str
) -> None:
    sabnzbd.slots = [slot(item)]

    for command in (client.pause, client.resume):
        await command(ItemId(item))
        assert sabnzbd.asked[-1]["value"] == item
    await client.remove(ItemId(item), delete_files=True)
    assert sabnzbd.asked[-1]["value"] == item


@pytest.mark.parametrize(
    "item",
    ["all", "ALL", "All", "failed", "completed", "a,b", "a b", "a\tb", "a\nb", " ", "", "\x7f"],
)
async def test_an_id_that_is_a_keyword_is_refused_even_if_listed(
    client: DownloadClient, sabnzbd: Recorded, item: str
) -> None:
    sabnzbd.slots = [slot(item)]

    for command in (client.pause, client.resume):
        with pytest.raises(ClientRefused, match="has no download"):
            await command(ItemId(item))
    with pytest.raises(ClientRefused, match="has no download"):
        await client.remove(ItemId(item), delete_files=True)

    assert not [asked for asked in sabnzbd.asked if "name" in asked]


async def test_it_reports_its_version(client: DownloadClient) -> None:
    assert await client.version() == "5.0.0RC3"

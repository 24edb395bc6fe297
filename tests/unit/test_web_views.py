"""The pages show states, problems and graphs in plain words."""

import datetime
from typing import Any, get_args
from uuid import UUID

import msgspec
import pytest

from mediabus.schemas.operations.requests import Download, DownloadState, HistoryEvent
from mediabus.schemas.status import (
    ClientName,
    ClientStatus,
    DownloadStatus,
    FailureReason,
    ItemId,
    Phase,
    UnreachableReason,
)
from mediabus.web.pages.add import Invalid, download_request, media_request
from mediabus.web.templating import coded
from mediabus.web.views import attention, clients, downloads
from mediabus.web.views.attention import download_problems, import_problems, target_problems
from mediabus.web.views.clients import client_view
from mediabus.web.views.downloads import DownloadView, download_view
from mediabus.web.views.graph import HEIGHT, WIDTH, graph

NOW = datetime.datetime(2026, 11, 28, 12, 0, tzinfo=datetime.UTC)
ID = UUID("0198c1f2-7a3b-7c4d-8e5f-6a7b8c9d0e1f")


def download(status: DownloadStatus | None = None, **fields: Any) -> Download:
    values: dict[str, Any] = {
        **dict.fromkeys(field.name for field in msgspec.structs.fields(Download)),
        "id": ID,
        "title": "Dune",
        "state": "active",
        "client": "home",
        "protocol": "torrent",
        "created_at": NOW,
        "updated_at": NOW,
        "status": status,
        **fields,
    }
    return Download(**values)


def status(**fields: Any) -> DownloadStatus:
    values = {"phase": Phase.DOWNLOADING, **fields}
    return DownloadStatus(client=ClientName("home"), item=ItemId("1"), title="Dune", **values)


def test_a_download_under_way_shows_progress_rate_and_time_left() -> None:
    view = download_view(
        download(status(progress=0.5, size=4_000_000_000, download_rate=2_100_000, eta=950))
    )
    assert (view.state, view.percent) == ("Downloading", "50 %")
    assert view.facts == ("2 GB of 4 GB", "2.1 MB/s", "16 min left")
    assert view.actions == ("pause", "cancel")


def test_a_download_whose_client_is_unreachable_shows_no_rate() -> None:
    view = download_view(
        download(status(progress=0.5, size=4_000, download_rate=2_100)), is_reachable=False
    )
    assert "unreachable" in view.state
    assert view.facts == ("2 kB of 4 kB",)


def test_progress_is_not_rounded_up_to_complete() -> None:
    assert download_view(download(status(progress=0.999))).percent == "99 %"


def test_a_stalled_download_shows_for_how_long() -> None:
    view = download_view(download(status(progress=0.5, idle_for=7200), state="stalled"))
    assert view.severity == "warning"
    assert "no data for 2 h" in view.facts


def test_a_problem_is_the_reason_and_the_message_of_the_client() -> None:
    view = download_view(download(state="failed", reason="disk_full", error_message="errno 28"))
    assert view.why == "the disk is full: errno 28"
    assert view.actions == ()


def test_hostile_titles_are_one_printable_line() -> None:
    view = download_view(download(title="a\u202eb\x1b[31m" + "c" * 9999))
    assert view.title.isprintable()
    assert len(view.title) <= downloads.MAX_TITLE


def test_the_title_of_a_linked_download_leads_to_its_media_item() -> None:
    assert download_view(download()).resource == ("download", str(ID))
    assert download_view(download(media_item_id=ID)).resource == ("media_item", str(ID))


@pytest.mark.parametrize("state", get_args(DownloadState))
@pytest.mark.parametrize("phase", Phase)
def test_every_state_and_phase_has_words(state: DownloadState, phase: Phase) -> None:
    view = download_view(download(status(phase=phase), state=state))
    assert isinstance(view, DownloadView)
    assert view.state


def test_every_reason_has_advice() -> None:
    assert set(attention.FAILURE_ADVICE) == set(get_args(FailureReason))
    assert set(clients.ADVICE) == set(get_args(UnreachableReason))


def client(**fields: Any) -> ClientStatus:
    values = {"reachable": True, "since": NOW, **fields}
    return ClientStatus(client=ClientName("home"), kind="qbittorrent", **values)


def test_an_unreachable_client_shows_why_and_what_to_do() -> None:
    view = client_view(client(reachable=False, reason="authentication", message="401"))
    assert (view.severity, view.why) == ("error", "wrong user name or password")
    assert view.advice == "401"
    bare = client_view(client(reachable=False, reason="authentication"))
    assert bare.advice == clients.ADVICE["authentication"]
    assert client_view(client()).why is None
    assert client_view(client(warning="disk nearly full")).severity == "warning"


def event(event_type: str, minute: int, resource: str = "1", **data: Any) -> HistoryEvent:
    return HistoryEvent(
        id=ID,
        time=NOW + datetime.timedelta(minutes=minute),
        type=event_type,
        category="downloads",
        severity="warning",
        source="mediabus/sonarr",
        actor_type=None,
        actor_id=None,
        resource_type="download",
        resource_id=resource,
        correlation_id=None,
        causation_id=None,
        data=msgspec.Raw(msgspec.json.encode(data)),
        recorded_at=NOW,
    )


def test_an_import_stays_blocked_until_it_succeeds() -> None:
    blocked = [
        event("download.import_blocked", 3, "2", title="Alien", reasons=["no match", "sample"]),
        event("download.import_blocked", 2, "1", title="Dune"),
        event("download.import_blocked", 1, "1", title="Dune"),
    ]
    found = list(import_problems(blocked, [event("download.imported", 5, "1", title="Dune")]))
    assert [(problem.title, problem.why) for problem in found] == [("Alien", "no match; sample")]
    assert "sonarr" in found[0].advice
    again = list(import_problems(blocked, [event("download.imported", 0, "1")]))
    assert [problem.title for problem in again] == ["Alien", "Dune"]


def test_a_failing_target_is_shown_until_it_recovers() -> None:
    failing = [event("notification.target_failing", 1, "phone", target="phone", error_message="x")]
    [problem] = target_problems(failing, [])
    assert (problem.title, problem.why, problem.severity) == ("phone", "x", "error")
    assert not list(target_problems(failing, [event("notification.target_recovered", 2, "phone")]))


def test_events_with_any_data_are_problems_too() -> None:
    odd = msgspec.structs.replace(event("x", 1), data=msgspec.Raw(b"[1]"))
    assert next(import_problems([odd], [])).title == "1"


def test_old_failures_that_left_their_client_are_not_shown() -> None:
    week = datetime.timedelta(days=8)
    old = download(state="failed", reason="unpack", error_message="bad archive")
    assert len(list(download_problems([old], NOW))) == 1
    assert not list(download_problems([old], NOW + week))
    kept = msgspec.structs.replace(old, status=status(phase=Phase.FAILED))
    [problem] = download_problems([kept], NOW + week)
    assert problem.advice == attention.FAILURE_ADVICE["unpack"]


def test_a_graph_fits_into_its_frame_and_says_what_it_shows() -> None:
    drawn = graph([0, 1, None, 1000], what="Events", form=lambda value: f"{value:.0f}", label=str)
    assert drawn.summary == "Events: 1000 last, at most 1000"
    assert [bar.text for bar in drawn.bars] == ["1: 1", "3: 1000"]
    assert all(bar.y >= 0 and bar.y + bar.height <= HEIGHT for bar in drawn.bars)
    assert all(bar.x >= 0 and bar.x + bar.width <= WIDTH for bar in drawn.bars)
    assert all(bar.height >= 1 for bar in drawn.bars)


def test_a_graph_without_values_is_empty() -> None:
    drawn = graph([None, None], what="Lag", form=str, label=str)
    assert (drawn.bars, drawn.summary) == ((), "Lag: none in this time")


def test_words_in_backticks_become_code_and_everything_is_escaped() -> None:
    assert coded("set `url` <b>") == "set <code>url</code> &lt;b&gt;"
    assert coded("`<i>` and ` alone") == "<code>&lt;i&gt;</code> and ` alone"


EMPTY = dict.fromkeys(("title", "link", "client", "category"), "")


def test_a_link_or_a_file_becomes_its_source() -> None:
    magnet = "magnet:?xt=urn:btih:0&dn=Dune+2021"
    assert download_request({**EMPTY, "link": magnet}) == {"title": "Dune 2021", "magnet": magnet}
    url = "https://example.org/a.torrent"
    wanted = download_request({**EMPTY, "link": url, "title": "A", "client": "home"})
    assert wanted == {"title": "A", "url": url, "client": "home"}
    torrent = download_request(EMPTY, "C:\\films\\Dune.torrent", b"d4:infoe")
    assert torrent == {"title": "Dune", "torrent": b"d4:infoe"}
    assert "nzb" in download_request(EMPTY, "a.nzb", b"<?xml version='1.0'?>\n<nzb xmlns=''>")


@pytest.mark.parametrize(
    ("values", "content", "field"),
    [
        ({}, b"", "link"),
        ({"link": "https://a.example"}, b"d", "link"),
        ({"link": "https://a.example"}, b"", "title"),
        ({"link": "ftp://a.example"}, b"", "link"),
        ({"link": "javascript:alert(1)"}, b"", "link"),
        ({}, b"GIF89a", "file"),
        ({}, b"d" * 5_000_001, "file"),
    ],
)
def test_an_unusable_source_is_refused_at_its_field(
    values: dict[str, str], content: bytes, field: str
) -> None:
    with pytest.raises(Invalid) as refused:
        download_request({**EMPTY, **values}, "x", content)
    assert set(refused.value.errors) == {field}


def test_a_media_item_needs_a_title_and_numbers() -> None:
    values = {"type": "movie", "title": "Dune", "year": "2021", "tmdb_id": ""}
    assert media_request(values) == {"type": "movie", "title": "Dune", "year": 2021}
    with pytest.raises(Invalid) as refused:
        media_request({"type": "movie", "title": "", "year": "MMXXI", "tmdb_id": "-1"})
    assert set(refused.value.errors) == {"title", "year", "tmdb_id"}

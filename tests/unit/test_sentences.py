"""Every event type has a sentence in plain words, and hostile data cannot break one."""

import datetime
import json
from typing import Any, ClassVar
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediabus.schemas import events, sentences
from mediabus.schemas.docs.examples import example
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import EVENT_TYPES, Category, Event
from mediabus.schemas.identity import Actor, Resource
from mediabus.schemas.sentences import Part, sentence_of
from mediabus.schemas.wording import REASONS, duration_text, size_text

USER = Actor("user", "42")
MONITOR = Actor("system", "download_monitor")
NOW = datetime.datetime(2026, 11, 28, tzinfo=datetime.UTC)

DOWNLOAD: dict[str, Any] = {"download_id": uuid4(), "title": "Dune.2021", "client": "qbittorrent"}
MOVIE: dict[str, Any] = {"title": "Dune", "media_type": "movie", "monitored": False, "year": 2021}


def said(event: Event, actor: Actor = MONITOR) -> str:
    return sentence_of(Envelope.of(event, actor=actor)).text


def foreign(name: str, data: object, **attributes: Any) -> Envelope:
    """Return an event as another program may publish it."""
    return Envelope(
        id=uuid4(),
        type=name,
        time=NOW,
        source="test",
        category="test",
        severity="info",
        data=msgspec.Raw(json.dumps(data).encode()),
        **attributes,
    )


@pytest.mark.parametrize(
    ("event", "actor", "sentence"),
    [
        (events.DownloadPaused(**DOWNLOAD), USER, "user 42 paused Dune.2021"),
        (events.DownloadPaused(**DOWNLOAD), MONITOR, "Dune.2021 was paused in qBittorrent"),
        (
            events.DownloadPaused(**DOWNLOAD, media_title="Dune"),
            Actor("user", "anna"),
            "anna paused Dune",
        ),
        (
            events.DownloadCancelled(**DOWNLOAD, files_deleted=True),
            USER,
            "user 42 cancelled Dune.2021 and deleted its files",
        ),
        (
            events.DownloadCancelled(**DOWNLOAD, files_deleted=False),
            USER,
            "user 42 cancelled Dune.2021",
        ),
        (
            events.DownloadFailed(**DOWNLOAD, reason="disk_full", error_message="errno 28"),
            MONITOR,
            "Dune.2021 failed in qBittorrent: the disk is full",
        ),
        (
            events.DownloadFailed(**DOWNLOAD, reason="client_error", error_message="bad tracker"),
            MONITOR,
            "Dune.2021 failed in qBittorrent: bad tracker",
        ),
        (
            events.DownloadClientUnreachable(
                client="qbittorrent", kind="qbittorrent", reason="authentication"
            ),
            MONITOR,
            "qBittorrent is unreachable: wrong user name or password",
        ),
        (
            events.DownloadClientRecovered(client="home", kind="sabnzbd", away_seconds=7500),
            MONITOR,
            "home (SABnzbd) answers again after 2 h 5 min",
        ),
        (
            events.MediaItemMonitoringChanged(**MOVIE),
            USER,
            "user 42 turned monitoring of Dune off",
        ),
        (
            events.JobExecuted(job_name="scan", duration_ms=812),
            Actor("job", "scan"),
            "Job scan finished in 812 ms",
        ),
    ],
)
def test_a_sentence_names_who_did_what(event: Event, actor: Actor, sentence: str) -> None:
    assert said(event, actor) == sentence


@pytest.mark.parametrize("event_class", EVENT_TYPES.values(), ids=EVENT_TYPES)
@pytest.mark.parametrize("actor", [USER, MONITOR, Actor("job", "scan"), None], ids=str)
def test_every_type_has_a_sentence_without_marks(
    event_class: type[Event], actor: Actor | None
) -> None:
    full = msgspec.structs.replace(example(event_class), actor=actor)
    required = {
        field.encode_name: msgspec.to_builtins(full.event)[field.encode_name]
        for field in msgspec.structs.fields(event_class)
        if field.required
    }
    least = msgspec.structs.replace(full, event=msgspec.convert(required, event_class))
    for sentence in (sentence_of(full), sentence_of(least)):
        assert sentence.text[:1].strip()
        assert not set(sentence.text) & set("{}[]`?")
        assert (sentence.severity, sentence.icon) == (event_class.severity, event_class.icon)


@pytest.mark.parametrize("event_class", EVENT_TYPES.values(), ids=EVENT_TYPES)
def test_a_template_names_only_fields_of_its_type(event_class: type[Event]) -> None:
    known = {field.name for field in msgspec.structs.fields(event_class)}
    derived = {"actor"}
    derived |= {"name"} if "title" in known else set()
    derived |= {"why"} if known & {"reason", "error_message"} else set()
    for template in (event_class.sentence, event_class.sentence_by):
        used = {name.lstrip("!") for name in sentences.fields_of(template)}
        assert used <= known | derived


def test_a_new_type_needs_no_template(monkeypatch: pytest.MonkeyPatch) -> None:
    class BookScanned(Event, frozen=True, kw_only=True):
        """A book was ``scanned``; ``pages`` is their number."""

        type = "book.scanned"
        category: ClassVar[Category] = "media"
        title: str
        pages: int = 0

    monkeypatch.setitem(EVENT_TYPES, BookScanned.type, BookScanned)
    assert said(BookScanned(title="Emma"), USER) == "Emma: a book was scanned (user 42)"


def test_an_unregistered_type_is_described_by_its_name() -> None:
    resource = Resource("shelf", "7")
    assert sentence_of(foreign("shelf.re_ordered", {"a": 1})).text == "Shelf re ordered"
    assert sentence_of(foreign("shelf.moved", None, resource=resource)).text == "Shelf moved: 7"
    titled = sentence_of(foreign("shelf.moved", {"title": "Poetry"}, resource=resource))
    assert titled.text == "Poetry: shelf moved"
    assert titled.parts[0] == Part("Poetry", "title", resource)


def test_a_title_links_to_its_resource_and_a_client_to_itself() -> None:
    resource = Resource("download", "0198")
    envelope = Envelope.of(events.DownloadPaused(**DOWNLOAD), actor=MONITOR, resource=resource)
    links = {part.role: part.link for part in sentence_of(envelope).parts}
    assert links["title"] == resource
    assert links["client"] == Resource("download_client", "qbittorrent")


def test_data_that_is_too_large_for_a_page_still_has_a_sentence() -> None:
    assert sentence_of(foreign("download.paused", {"mediabus_omitted_bytes": 9})).text.endswith(
        "was paused in ?"
    )


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=400)
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**400), 10**400)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.sampled_from(
    sorted(
        {f.name for one in EVENT_TYPES.values() for f in msgspec.structs.fields(one)}
        | {"name", "why", "actor"}
    )
)
NAMES = st.sampled_from(sorted(EVENT_TYPES)) | st.text(min_size=1)


@given(NAMES, st.dictionaries(FIELDS, ANYTHING), TEXT, TEXT)
def test_any_data_gives_printable_parts(
    name: str, data: dict[str, object], actor: str, resource: str
) -> None:
    envelope = foreign(
        name, data, actor=Actor("user", actor), resource=Resource("media_item", resource)
    )
    sentence = sentence_of(envelope)
    assert all(part.text.isprintable() for part in sentence.parts)
    assert all(len(part.text) <= sentences.MAX_VALUE for part in sentence.parts)
    assert sentence.text


def test_data_with_an_endless_number_still_has_a_sentence() -> None:
    envelope = msgspec.structs.replace(
        foreign("shelf.moved", None), data=msgspec.Raw(b'{"title": ' + b"9" * 5000 + b"}")
    )
    assert sentence_of(envelope).text == "Shelf moved"


def test_a_title_with_ten_thousand_letters_is_cut() -> None:
    event = events.DownloadPaused(**{**DOWNLOAD, "title": "a" * 10_000})
    assert len(said(event, USER)) < sentences.MAX_VALUE + 20


def test_bidi_and_escape_characters_become_visible() -> None:
    event = events.DownloadPaused(**{**DOWNLOAD, "title": "a\u202eb\x1b[31mc\nd"})
    assert said(event, USER) == "user 42 paused a\ufffdb\ufffd[31mc\ufffdd"


def test_markup_is_text() -> None:
    event = events.DownloadPaused(**{**DOWNLOAD, "title": "<img src=x onerror=alert(1)>"})
    assert "<img src=x onerror=alert(1)>" in said(event, USER)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (24_696_061_952, "24.7 GB"),
     (999_999, "1000 kB"), (10**19, "10000 PB")],
)  # fmt: skip
def test_sizes_are_in_decimal_units(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "200 ms"), (42, "42 s"), (59.7, "1 min"), (90, "2 min"), (3600, "1 h"),
     (7500, "2 h 5 min"), (93600, "1 d 2 h")],
)  # fmt: skip
def test_durations_have_two_units_at_most(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_every_reason_has_words() -> None:
    reasons = msgspec.json.schema(events.DownloadFailed)["$defs"]["DownloadFailed"]["properties"]
    outages = msgspec.json.schema(events.DownloadClientUnreachable)["$defs"]
    known = set(reasons["reason"]["enum"])
    (choice, *_) = outages["DownloadClientUnreachable"]["properties"]["reason"]["anyOf"]
    assert known | set(choice["enum"]) <= set(REASONS)

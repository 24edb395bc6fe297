"""The codec: what goes in comes out, and what is broken says what and where."""

import contextlib
import datetime
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from mediabus.schemas import codec
from mediabus.schemas.codec import InvalidEvent
from mediabus.schemas.docs.examples import example
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import EVENT_TYPES, DownloadFailed, JobExecuted
from mediabus.schemas.identity import Actor, Resource, uuid7

TEXT = some.text(some.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
NAME = TEXT.filter(bool)
KIND = some.text(some.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=40)
NUMBERS = some.integers(-(2**53), 2**53) | some.floats(allow_nan=False, allow_infinity=False)
JSON = some.recursive(
    some.none() | some.booleans() | NUMBERS | TEXT,
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
MOMENTS = some.datetimes(timezones=some.just(datetime.UTC))


@some.composite
def envelopes(draw: some.DrawFn) -> Envelope:
    """Anything that the bus may carry: registered events and others, all attributes or few."""
    event_type = draw(some.sampled_from([*EVENT_TYPES, "shop.opened", "noun"]))
    if event_type in EVENT_TYPES:
        made = example(EVENT_TYPES[event_type])
        event, data = made.event, made.data
    else:
        event, data = None, msgspec.Raw(msgspec.json.encode(draw(some.dictionaries(TEXT, JSON))))
    return Envelope(
        id=draw(some.uuids()),
        type=event_type,
        time=draw(MOMENTS),
        source=draw(NAME),
        category=event.category if event else draw(NAME),
        severity=draw(some.sampled_from(["info", "warning", "error"])),
        actor=draw(some.none() | some.builds(Actor, some.just("job"), NAME)),
        resource=draw(some.none() | some.builds(Resource, KIND, NAME)),
        correlation_id=draw(some.none() | NAME),
        causation_id=draw(some.none() | NAME),
        event=event,
        data=data,
    )


@given(envelopes())
def test_an_encoded_event_decodes_to_itself(envelope: Envelope) -> None:
    assert codec.decode(codec.encode(envelope)) == envelope


@given(envelopes())
def test_binary_mode_decodes_to_the_same_event(envelope: Envelope) -> None:
    whole = msgspec.json.decode(codec.encode(envelope))
    data = whole.pop("data", {})
    headers = {f"ce-{name}": quote(value, safe="") for name, value in whole.items()}
    assert codec.decode(msgspec.json.encode(data), headers).fields() == envelope.fields()
    decoded = codec.decode(msgspec.json.encode(data), headers)
    assert msgspec.structs.replace(decoded, data=envelope.data) == envelope


@given(some.binary(max_size=200) | JSON.map(msgspec.json.encode))
def test_any_bytes_are_an_event_or_invalid(payload: bytes) -> None:
    for headers in (None, {"ce-specversion": "1.0", "ce-id": "1"}):
        with contextlib.suppress(InvalidEvent):
            assert codec.decode(payload, headers).type


@given(some.text(max_size=30), some.integers(0, 3))
def test_nul_is_refused_anywhere_but_not_an_escaped_backslash(text: str, backslashes: int) -> None:
    fields = {"text": text + "\\" * backslashes + "u0000"}
    document = valid(type="x.y", data=fields)
    if "\0" in text:
        with pytest.raises(InvalidEvent, match="NUL"):
            codec.decode(msgspec.json.encode(document))
    else:
        assert codec.decode(msgspec.json.encode(document)).fields() == fields


def valid(**changes: Any) -> dict[str, Any]:
    """A valid document, some attributes changed and those that are ... left out."""
    document = {
        "specversion": "1.0",
        "id": "0198c1f3-0d4e-7f60-9a1b-2c3d4e5f6071",
        "source": "test",
        "type": "job.executed",
        "time": "2026-11-22T10:00:00.123456Z",
        "data": {"job_name": "scan"},
    }
    return {name: value for name, value in {**document, **changes}.items() if value is not ...}


def decode(document: dict[str, Any]) -> Envelope:
    return codec.decode(msgspec.json.encode(document))


def test_missing_attributes_come_from_the_type() -> None:
    failed = decode(valid(type="job.failed"))
    assert (failed.category, failed.severity) == ("system", "error")
    assert (failed.actor, failed.resource) == (None, None)
    unregistered = decode(valid(type="shop.opened", data=...))
    assert (unregistered.category, unregistered.severity) == ("other", "info")
    assert unregistered.fields() == {}


def test_fields_that_a_type_does_not_know_are_kept() -> None:
    event = decode(valid(data={"job_name": "scan", "host": "nas"}))
    assert event.event == JobExecuted(job_name="scan")
    assert event.fields() == {"job_name": "scan", "host": "nas"}


def test_a_time_with_any_offset_is_the_same_instant() -> None:
    event = decode(valid(time="2026-11-22T12:00:00.5+02:00"))
    assert event.time == datetime.datetime(2026, 11, 22, 10, 0, 0, 500_000, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("event_type", "subject", "resource"),
    [
        ("job.executed", "job/scan", Resource("job", "scan")),
        ("job.executed", "file/a/b", Resource("file", "a/b")),
        ("job.executed", "scan", Resource("job", "scan")),
        ("job.executed", "/scan", Resource("job", "/scan")),
        ("job.executed", "job/", Resource("job", "job/")),
        ("bare", "scan", Resource("bare", "scan")),
        (".odd", "scan", Resource(".odd", "scan")),
        ("a/b.c", "scan", Resource("a_b", "scan")),
    ],
)
def test_a_subject_names_a_resource(event_type: str, subject: str, resource: Resource) -> None:
    assert decode(valid(type=event_type, subject=subject)).resource == resource


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"id": ...}, "required field `id`"),
        ({"id": ""}, r"length >= 1 - at `\$.id`"),
        ({"id": 7}, r"Expected `str`, got `int` - at `\$.id`"),
        ({"specversion": "0.3"}, r"at `\$.specversion`"),
        ({"source": ""}, r"at `\$.source`"),
        ({"type": ...}, "required field `type`"),
        ({"type": "x" * 256}, r"<= 255 - at `\$.type`"),
        ({"time": "yesterday"}, r"at `\$.time`"),
        ({"time": "2026-11-22T10:00:00"}, r"timezone component - at `\$.time`"),
        ({"severity": "fatal"}, r"at `\$.severity`"),
        ({"subject": "s" * 1025}, r"at `\$.subject`"),
        ({"actortype": "robot", "actorid": "1"}, r"at `\$.actortype`"),
        ({"actortype": "user"}, "actortype and actorid belong together"),
        ({"actorid": "42"}, "actortype and actorid belong together"),
        ({"data": ...}, "data of job.executed: Object missing required field `job_name`"),
        ({"data": {"job_name": 5}}, r"data of job.executed: .* - at `\$.job_name`"),
        ({"data": [1]}, "data of job.executed: Expected `object`, got `array`"),
        ({"category": "media"}, "job.executed belongs to the category system, not media"),
        ({"datacontenttype": "text/plain", "data": "x"}, "expected JSON, got text/plain"),
        ({"data_base64": "e30="}, "data and data_base64 exclude each other"),
        ({"type": "my.own", "data": ..., "data_base64": "?"}, r"at `\$.data_base64`"),
        ({"data": {"job_name": "a\0b"}}, "NUL"),
        ({"type": "my.own", "data": {"n": [[[]]] * 400_000}}, "bytes: an event may have 1000000"),
    ],
)
def test_an_error_names_the_field(changes: dict[str, Any], where: str) -> None:
    with pytest.raises(InvalidEvent, match=where):
        decode(valid(**changes))


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"\xff", b'"text"', b"[]", b"null", b'{"id": "\xff"}']
)
def test_a_message_that_is_not_an_envelope_is_reported(payload: bytes) -> None:
    with pytest.raises(InvalidEvent, match=r"not a CloudEvents 1\.0 envelope"):
        codec.decode(payload)


@pytest.mark.parametrize("event_type", ["my.own", "job.executed"])
@pytest.mark.parametrize("text", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"])
def test_invalid_utf8_is_refused_anywhere(event_type: str, text: bytes) -> None:
    """Also in what no type asks for, which would otherwise reach PostgreSQL as it is."""
    event = valid(type=event_type, data={"job_name": "x", "more": ["HERE"]})
    with pytest.raises(InvalidEvent, match="'utf-8' codec"):
        codec.decode(msgspec.json.encode(event).replace(b"HERE", text))


@pytest.mark.parametrize("event_type", ["my.own", "media_item.updated"])
def test_data_as_deep_as_a_well_is_refused(event_type: str) -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    start = msgspec.json.encode(valid(type=event_type, data=...))[:-1]
    with pytest.raises(InvalidEvent, match=r"depth|recursion"):
        codec.decode(start + b',"data":{"changes":{"a":[' + deep + b",0]}}}")


def test_binary_mode_accepts_any_json_with_its_content_type() -> None:
    whole = valid(type="my.own", data=...)
    headers = {f"ce-{name}": value for name, value in whole.items()}
    headers |= {"Content-Type": "application/json"}
    assert codec.decode(b"", headers).fields() == {}
    assert codec.decode(b"{}", headers).fields() == {}
    assert codec.decode(b'{"a": 1}', headers).fields() == {"a": 1}
    assert codec.decode(b"[]", headers).value() == []
    with pytest.raises(InvalidEvent, match="data is not JSON"):
        codec.decode(b"plain text", headers)


def test_data_that_postgresql_cannot_store_is_not_encoded() -> None:
    actor = Actor("job", "nightly")
    with pytest.raises(InvalidEvent, match="NUL"):
        codec.encode(Envelope.of(JobExecuted(job_name="a\0b"), actor=actor))
    with pytest.raises(InvalidEvent, match="an event may have 1000000"):
        codec.encode(Envelope.of(JobExecuted(job_name="a" * 1_000_000), actor=actor))


def test_an_envelope_gets_category_and_severity_of_its_type() -> None:
    event = DownloadFailed(
        download_id=uuid7(), title="Dune", client="home", reason="disk_full", error_message="full"
    )
    envelope = Envelope.of(event, actor=Actor("system", "download_monitor"))
    assert (envelope.type, envelope.category, envelope.severity, envelope.source) == (
        "download.failed",
        "downloads",
        "error",
        "mediabus/downloads",
    )
    assert envelope.fields()["reason"] == "disk_full"
    assert msgspec.json.decode(codec.encode(envelope))["dataschema"] == "mediabus:download.failed:1"


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_each_registered_type_has_a_valid_name(name: str) -> None:
    event_class = EVENT_TYPES[name]
    resource, dot, action = name.partition(".")
    assert dot
    assert resource.replace("_", "").isalpha()
    assert action.replace("_", "").isalpha()
    assert event_class.type == name
    assert event_class.__doc__
    assert {field.name for field in msgspec.structs.fields(event_class)}.isdisjoint(
        {"id", "type", "time", "source", "category", "severity"}
    )

"""Every valid CloudEvent is kept whole: the specification's examples, the SDK's, any other."""

import base64
import datetime
from typing import Any
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

import msgspec
import pytest
from cloudevents.core.bindings.http import (
    HTTPMessage,
    from_binary,
    from_structured,
    to_binary,
    to_structured,
)
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent as SdkEvent
from hypothesis import given
from hypothesis import strategies as some

from mediabus.consumers.event_row import EventRow
from mediabus.schemas import codec
from mediabus.schemas.codec import InvalidEvent
from mediabus.schemas.docs.examples import example
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import EVENT_TYPES, JobExecuted, JobFailed
from mediabus.schemas.identity import Actor, Resource
from tests.support.cloud_events import SPECIFICATION, any_event

NOW = datetime.datetime(2026, 11, 28, 12, 0, tzinfo=datetime.UTC)
MINIMAL: dict[str, Any] = {"specversion": "1.0", "id": "1", "source": "/s", "type": "my.own"}


def as_json(document: dict[str, Any]) -> bytes:
    return msgspec.json.encode(document)


def set_attributes(document: dict[str, Any]) -> dict[str, Any]:
    """Without what is null, which is not set; null data is data."""
    return {n: value for n, value in document.items() if value is not None or n == "data"}


def stored_and_read(payload: bytes, headers: dict[str, str] | None = None) -> EventRow:
    """The row of a message, which is the same with and without an envelope on the way."""
    envelope, sent = codec.read(payload, headers, published_at=lambda: NOW)
    row = EventRow.decode(payload, headers, 1, published_at=lambda: NOW, trust_actor=False)
    assert row == EventRow.of(envelope, 1, sent)
    return row


def in_binary_mode(document: dict[str, Any]) -> tuple[bytes, dict[str, str]]:
    """The same event with its attributes as headers, as the NATS binding says."""
    attributes = set_attributes(document)
    content_type = attributes.get("datacontenttype")
    if "data_base64" in attributes:
        body = base64.b64decode(attributes.pop("data_base64"))
    elif "data" not in attributes:
        body = b""
    elif content_type is None or "json" in content_type:
        body = as_json(attributes.pop("data"))
        attributes["datacontenttype"] = content_type or "application/json"
    else:
        body = attributes.pop("data").encode()
    headers = {
        f"ce-{name}": quote(value if isinstance(value, str) else as_json(value).decode())
        for name, value in attributes.items()
    }
    return body, headers


@pytest.mark.parametrize("name", SPECIFICATION)
def test_examples_of_the_specification_are_unchanged(name: str) -> None:
    document = SPECIFICATION[name]
    envelope = codec.decode(as_json(document), published_at=lambda: NOW)
    again = msgspec.json.decode(codec.encode(envelope))
    expected = set_attributes(document)
    assert {key: again.get(key) for key in expected} == expected
    assert envelope.published_id == document["id"]
    assert envelope.id == uuid5(uuid5(NAMESPACE_URL, "/mycontext"), document["id"])


@pytest.mark.parametrize("name", SPECIFICATION)
def test_examples_of_the_specification_work_in_binary_mode(name: str) -> None:
    document = SPECIFICATION[name]
    body, headers = in_binary_mode(document)
    structured = codec.decode(as_json(document), published_at=lambda: NOW)
    binary = codec.decode(body, headers, published_at=lambda: NOW)
    extensions = {key: _canonical(value) for key, value in structured.extensions.items()}
    assert binary == msgspec.structs.replace(structured, extensions=extensions)


def _canonical(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


@given(any_event())
def test_any_structured_event_gives_its_bytes_back(document: dict[str, Any]) -> None:
    payload = as_json(document)
    row = stored_and_read(payload)
    assert row.sent() == (payload, None)
    envelope = codec.decode(payload, published_at=lambda: NOW)
    assert row.envelope() == envelope
    again = msgspec.json.decode(codec.encode(envelope))
    assert {name: again.get(name) for name in document} == document
    assert codec.decode(codec.encode(envelope), published_at=lambda: NOW) == envelope


@given(any_event())
def test_any_event_in_binary_mode_keeps_body_and_headers(document: dict[str, Any]) -> None:
    body, headers = in_binary_mode(document)
    row = stored_and_read(body, headers)
    assert row.sent() == (body, headers)
    assert row.envelope() == codec.decode(body, headers, published_at=lambda: NOW)


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_columns_alone_reproduce_events_of_mediabus(name: str) -> None:
    payload = codec.encode(example(EVENT_TYPES[name]))
    row = stored_and_read(payload)
    assert row.message is None
    assert row.sent() == (payload, None)


def test_traced_events_need_no_message_either() -> None:
    envelope = msgspec.structs.replace(
        example(EVENT_TYPES["job.executed"]),
        extensions={"tracestate": "a=1", "traceparent": "00-ab", "flag": True, "count": 7},
        actor_verified=True,
    )
    payload = codec.encode(envelope)
    decoded, sent = codec.read(payload, trust_actor=True)
    assert (decoded, sent) == (envelope, None)
    row = EventRow.of(decoded, 1, sent)
    assert row.message is None
    assert row.sent().payload == payload


PLAIN = example(EVENT_TYPES["job.failed"])


@pytest.mark.parametrize(
    "changed",
    [
        {"time": datetime.datetime.fromisoformat("2026-11-28T10:00:00.5+02:00")},
        {"actor": Actor("user", "42"), "actor_verified": True},
        {"actor": None},
        {"resource": None},
        {"resource": Resource("a", "b/c")},
        {"resource": Resource("job", "neither"), "subject": "neither"},
        {"resource": Resource("job", "/a"), "subject": "/a"},
        {"correlation_id": "a", "causation_id": "b"},
        {"published_id": "not-a-uuid"},
        {"has_time": False},
    ],
)
def test_the_row_of_an_event_does_not_depend_on_the_way_to_it(changed: dict[str, Any]) -> None:
    envelope = msgspec.structs.replace(PLAIN, **changed)
    payload = codec.encode_any(envelope)
    for trust in (False, True):
        row = EventRow.decode(payload, None, 7, published_at=lambda: NOW, trust_actor=trust)
        read = codec.read(payload, published_at=lambda: NOW, trust_actor=trust)
        assert row == EventRow.of(read[0], 7, read[1])
        assert row.actor_verified == (trust and envelope.actor_verified)


def test_an_event_in_the_body_of_another_is_data() -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "my.own"}
    headers["Content-Type"] = "application/json"
    row = stored_and_read(codec.encode(PLAIN), headers)
    assert (row.type, row.published_id) == ("my.own", "1")


def test_events_whose_numbers_postgresql_writes_out_keep_their_message() -> None:
    for numbers, is_kept in ((10, False), (4000, True)):
        event = JobFailed(job_name="a", error_message="x" * 9000 + " 1e300" * numbers)
        row = stored_and_read(codec.encode(Envelope.of(event, actor=Actor("job", "a"))))
        assert (row.message is not None) == is_kept


@pytest.mark.parametrize(
    "text",
    [
        '{"b":1,"aa":2,"a":{"z":1,"y":2}}',
        "12345678901234567890123456789",
        "9007199254740993",
        "1e300",
        "1E+2",
        "-0",
        "1.10",
        ' { "a" : 1 } ',
        '{"a":1,"a":2}',
        '"\\u00fc"',
        "null",
        "true",
        "[]",
        '""',
    ],
)
def test_json_is_kept_byte_by_byte(text: str) -> None:
    payload = as_json(MINIMAL)[:-1] + b',"time":"2026-11-22T10:00:00Z","data":' + text.encode()
    payload += b"}"
    assert stored_and_read(payload).sent().payload == payload


def test_no_data_is_not_null_and_null_is_data() -> None:
    absent = codec.decode(as_json(MINIMAL))
    null = codec.decode(as_json(MINIMAL | {"data": None}))
    assert b'"data"' not in codec.encode(absent)
    assert b'"data":null' in codec.encode(null)
    assert (absent.value(), null.value()) == (None, None)
    assert absent.data != null.data


@pytest.mark.parametrize("value", ["7", 7, True, False, "2026-11-22T10:00:00Z", "urn:x:y", -5])
def test_extension_attributes_keep_their_types(value: object) -> None:
    envelope = codec.decode(as_json(MINIMAL | {"mine": value}))
    assert envelope.extensions == {"mine": value}
    again = msgspec.json.decode(codec.encode(envelope))["mine"]
    assert (again, type(again)) == (value, type(value))


def test_null_attributes_are_not_set() -> None:
    unset = {"subject": None, "time": None, "mine": None, "category": None}
    envelope = codec.decode(as_json(MINIMAL | unset), published_at=lambda: NOW)
    assert (envelope.subject, envelope.has_time, envelope.extensions) == (None, False, {})


def test_one_id_of_two_sources_is_two_events_and_of_one_is_one() -> None:
    first, again, other = (
        codec.decode(as_json(MINIMAL | {"source": source})) for source in ("/s", "/s", "/other")
    )
    assert first.id == again.id != other.id


@pytest.mark.parametrize(
    "spelling",
    ["0198C1F3-0D4E-7F60-9A1B-2C3D4E5F6071", "0198c1f30d4e7f609a1b2c3d4e5f6071"],
)
def test_a_uuid_keeps_its_spelling(spelling: str) -> None:
    envelope = codec.decode(as_json(MINIMAL | {"id": spelling}))
    assert str(envelope.id) == "0198c1f3-0d4e-7f60-9a1b-2c3d4e5f6071"
    assert msgspec.json.decode(codec.encode(envelope))["id"] == spelling


def test_an_event_without_time_gets_the_time_of_its_message() -> None:
    envelope = codec.decode(as_json(MINIMAL), published_at=lambda: NOW)
    assert envelope.time == NOW
    assert "time" not in msgspec.json.decode(codec.encode(envelope))


@pytest.mark.parametrize("subject", ["file.jpg", "a/b/c", "/", "partnerid/5:clientid/100", "ü"])
def test_a_subject_of_any_form_is_kept(subject: str) -> None:
    envelope = codec.decode(as_json(MINIMAL | {"subject": subject}))
    assert msgspec.json.decode(codec.encode(envelope))["subject"] == subject


@pytest.mark.parametrize("batch", [b"[]", b' [{"specversion":"1.0"}]'])
def test_a_batch_is_refused_by_name(batch: bytes) -> None:
    with pytest.raises(InvalidEvent, match=r"batch.*Publish each event as a message of its own"):
        codec.decode(batch)


# Headers -----------------------------------------------------------------------------------------

HEADERS = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "my.own"}


@pytest.mark.parametrize(
    ("value", "decoded"),
    [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € \N{GRINNING FACE}"),  # the binding's own
        ("a%2fb%2Fc", "a/b/c"),
        ("100%25", "100%"),
        ("%2525", "%25"),
        ('"quoted \\"text\\" and %20"', 'quoted "text" and  '),
        ("100%", "100%"),
        ("plain Ünï", "plain Ünï"),
    ],
)
def test_header_values_are_decoded_as_in_the_binding(value: str, decoded: str) -> None:
    envelope = codec.decode(b"", HEADERS | {"ce-mine": value, "ce-subject": value})
    assert envelope.extensions == {"mine": decoded}
    assert msgspec.json.decode(codec.encode(envelope))["subject"] == decoded


@pytest.mark.parametrize("value", ["%C0%A0", "%FF", "a%ED%A0%80", "\N{REPLACEMENT CHARACTER}"])
def test_header_values_that_are_not_utf8_are_refused(value: str) -> None:
    with pytest.raises(InvalidEvent, match="header ce-mine"):
        codec.decode(b"", HEADERS | {"ce-mine": value})


def test_header_names_have_no_case() -> None:
    headers = {name.title(): value for name, value in HEADERS.items()}
    assert codec.decode(b"", headers | {"CE-Mine": "x"}).extensions == {"mine": "x"}


def test_a_whole_event_in_the_body_is_not_binary_mode() -> None:
    headers = HEADERS | {"Content-Type": "application/CloudEvents+json; charset=utf-8"}
    assert codec.decode(as_json(MINIMAL | {"id": "2"}), headers).published_id == "2"


@pytest.mark.parametrize(
    ("content_type", "body", "data", "data_bytes"),
    [
        ("application/json", b'{"a": 1}', b'{"a": 1}', None),
        ("application/vnd.x+json", b"[1]", b"[1]", None),
        ("text/plain", "grüß".encode(), '"grüß"'.encode(), None),
        ("text/plain; charset=iso-8859-1", b"gr\xfc\xdf", b"", b"gr\xfc\xdf"),
        ("text/plain", b"\xff", b"", b"\xff"),
        ("text/plain", b"a\0b", b"", b"a\0b"),
        ("application/xml", b"<a/>", b'"<a/>"', None),
        ("application/avro", b"\x00\x01", b"", b"\x00\x01"),
        ("application/json; charset=utf-16", b"\xff\xfe{\0}\0", b"", b"\xff\xfe{\0}\0"),
        (None, b'{"a": 1}', b"", b'{"a": 1}'),
    ],
)
def test_a_body_is_data_of_its_content_type(
    content_type: str | None, body: bytes, data: bytes, data_bytes: bytes | None
) -> None:
    headers = HEADERS if content_type is None else HEADERS | {"Content-Type": content_type}
    envelope = codec.decode(body, headers)
    assert (bytes(envelope.data), envelope.data_bytes) == (data, data_bytes)
    assert envelope.content_type == content_type


def test_a_body_that_is_not_json_despite_its_type_is_refused() -> None:
    with pytest.raises(InvalidEvent, match="data is not JSON, but has to be application/json"):
        codec.decode(b"{", HEADERS | {"content-type": "application/json"})


def test_a_registered_type_is_typed_in_every_mode() -> None:
    headers = HEADERS | {"ce-type": "job.executed"}
    body = b'{"job_name": "scan"}'
    assert codec.decode(body, headers).event == JobExecuted(job_name="scan")
    encoded = base64.b64encode(body).decode()
    document = MINIMAL | {"type": "job.executed", "datacontenttype": "application/json"}
    envelope = codec.decode(as_json(document | {"data_base64": encoded}))
    assert envelope.event == JobExecuted(job_name="scan")
    assert envelope.data_bytes == body


# Proven actors -----------------------------------------------------------------------------------

CLAIM = {"actortype": "user", "actorid": "42", "actorverified": True}


def test_a_proven_actor_is_trusted_only_on_request() -> None:
    for document in (MINIMAL | CLAIM, MINIMAL | CLAIM | {"data": 1, "mine": "x"}):
        payload = as_json(document)
        assert not codec.decode(payload).actor_verified
        assert codec.decode(payload, trust_actor=True).actor_verified
    headers = HEADERS | {"ce-actortype": "user", "ce-actorid": "42", "ce-actorverified": "true"}
    assert not codec.decode(b"", headers).actor_verified
    assert codec.decode(b"", headers, trust_actor=True).actor_verified


def claims() -> list[tuple[bytes, dict[str, str] | None]]:
    plain = msgspec.structs.replace(example(EVENT_TYPES["job.executed"]), actor_verified=True)
    escaped = as_json(MINIMAL | CLAIM).replace(b'"actorv', b'"\\u0061ctorv')
    headers = {**HEADERS, "ce-actortype": "user", "ce-actorid": "42", "CE-ActorVerified": "true"}
    return [
        (codec.encode(plain), None),
        (as_json(MINIMAL | CLAIM), None),
        (escaped, None),
        (b'{"a": 1}', headers),
    ]


@pytest.mark.parametrize(("payload", "headers"), claims())
def test_a_claim_that_was_not_believed_is_not_handed_on(
    payload: bytes, headers: dict[str, str] | None
) -> None:
    row = stored_and_read(payload, headers)
    assert not row.actor_verified
    again = row.sent()
    assert not codec.decode(again.payload, again.headers, trust_actor=True).actor_verified


# The SDK -----------------------------------------------------------------------------------------


def sdk_event(**changes: Any) -> SdkEvent:
    attributes = {
        "id": "A-1",
        "source": "/sdk",
        "type": "com.example.someevent",
        "specversion": "1.0",
        "time": NOW,
        "subject": "grüß gott",
        "datacontenttype": "application/json",
        "myextension": "50% of €",
    }
    data = changes.pop("data", {"a": [1, 2.5, None, "ü"]})
    return SdkEvent({**attributes, **changes}, data)


SDK_DATA: dict[str, tuple[str, Any]] = {
    "object": ("application/json", {"a": [1, 2.5, None, "ü"]}),
    "text": ("text/plain", "just text"),
    "bytes": ("application/octet-stream", b"\x00\xff"),
}


@pytest.mark.parametrize("name", SDK_DATA)
def test_events_of_the_sdk_are_the_same_in_both_modes(name: str) -> None:
    content_type, data = SDK_DATA[name]
    event = sdk_event(datacontenttype=content_type, data=data)
    for write in (to_structured, to_binary):
        message = write(event, JSONFormat())
        envelope = codec.decode(message.body, dict(message.headers))
        assert envelope.published_id == "A-1"
        assert envelope.value() == data
        assert envelope.extensions == {"myextension": "50% of €"}
        assert envelope.subject == "grüß gott"
        assert (envelope.time, envelope.content_type) == (NOW, content_type)


@pytest.mark.parametrize("name", SDK_DATA)
def test_the_sdk_reads_what_replay_sends_of_its_events(name: str) -> None:
    content_type, data = SDK_DATA[name]
    event = sdk_event(datacontenttype=content_type, data=data)
    for write, read in ((to_structured, from_structured), (to_binary, from_binary)):
        message = write(event, JSONFormat())
        sent = stored_and_read(message.body, dict(message.headers)).sent()
        headers = dict(sent.headers or {"content-type": codec.CONTENT_TYPE})
        again = read(HTTPMessage(headers=headers, body=sent.payload), JSONFormat(), SdkEvent)
        assert again.get_attributes() == read(message, JSONFormat(), SdkEvent).get_attributes()
        assert again.get_data() == data


@given(any_event())
def test_the_sdk_reads_what_the_codec_writes(document: dict[str, Any]) -> None:
    encoded = codec.encode(codec.decode(as_json(document), published_at=lambda: NOW))
    again = JSONFormat().read(SdkEvent, encoded)
    assert again.get_id() == document["id"]
    assert again.get_source() == document["source"]
    for name in document.keys() - {"data", "data_base64", "time"}:
        assert again.get_attributes()[name] == document[name]


@given(some.text(max_size=20))
def test_a_subject_that_its_resource_spells_needs_no_field(text: str) -> None:
    envelope = Envelope.of(
        JobExecuted(job_name="x"), actor=Actor("job", "x"), resource=Resource("job", f"x{text}")
    )
    assert envelope.subject is None

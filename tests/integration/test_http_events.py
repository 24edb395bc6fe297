"""``POST /events``: CloudEvents over HTTP in structured, binary and batch mode."""

import base64
import gzip
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent as SdkEvent

from mediabus.runtime.nats.bus import Bus
from mediabus.schemas import codec
from mediabus.service.ingest.http.cloud_events import MAX_BATCH, CloudEvents
from tests.support.cloud_events import SPECIFICATION
from tests.support.http_in import Reply, send, serving_endpoint
from tests.support.servers import NatsServer
from tests.support.stream import messages

TOKEN = "a-token-of-sixteen-or-more"
BEARER = f"Bearer {TOKEN}"
BATCH = "application/cloudevents-batch+json"


@pytest.fixture
async def url(bus: Bus) -> AsyncIterator[str]:
    async with serving_endpoint(CloudEvents(bus, TOKEN).receive) as base:
        yield f"{base}/events"


async def post(url: str, body: Any, **headers: str) -> Reply:
    return await send(url, body, Authorization=BEARER, **headers)


async def stored(bus: Bus) -> list[dict[str, Any]]:
    return [msgspec.json.decode(message.data or b"") for message in await messages(bus)]


def event(event_id: str, **members: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": event_id, "source": "/s", "type": "my.own", **members}


def binary(document: dict[str, Any]) -> tuple[bytes, dict[str, str]]:
    """Return the body and headers of an example in binary mode."""
    headers = {
        f"ce-{name}": str(value)
        for name, value in document.items()
        if value is not None and not name.startswith("data")
    }
    content_type = document.get("datacontenttype", "application/json")
    if "data_base64" in document:
        return base64.b64decode(document["data_base64"]), {
            **headers,
            "Content-Type": document.get("datacontenttype", "application/octet-stream"),
        }
    data = document["data"]
    is_json = content_type == "application/json"
    body = msgspec.json.encode(data) if is_json else str(data).encode()
    return body, {**headers, "Content-Type": content_type}


@pytest.mark.parametrize("name", SPECIFICATION)
async def test_example_of_the_specification_is_stored_whole_in_each_mode(
    url: str, bus: Bus, name: str
) -> None:
    document = SPECIFICATION[name]
    first = await post(url, document, Content_Type=codec.CONTENT_TYPE)
    body, headers = binary({**document, "id": f"{document['id']}-binary"})
    second = await post(url, body, **headers)
    third = await post(url, [{**document, "id": f"{document['id']}-batch"}], Content_Type=BATCH)
    assert [reply.status for reply in (first, second, third)] == [200, 200, 200], second.body
    assert first.body == {"status": "stored", "id": document["id"]}
    structured, from_binary, from_batch = await stored(bus)
    given = {key: value for key, value in document.items() if value is not None}
    assert structured | given == structured
    assert from_batch["id"] == f"{document['id']}-batch"
    for key in ("data", "data_base64", "time", "comexampleextension1"):
        assert from_binary.get(key) == structured.get(key)


async def test_events_of_the_sdk_are_stored(url: str, bus: Bus) -> None:
    attributes = {
        "id": "sdk-1",
        "source": "https://example.org/a b",
        "type": "org.example.thing",
        "subject": "thing/ä",
        "datacontenttype": "application/json",
    }
    sdk_event = SdkEvent(attributes, {"answer": 42})
    for message in (to_structured_event(sdk_event), to_binary_event(sdk_event)):
        reply = await post(url, bytes(message.body), **message.headers)
        assert reply.status == 200, reply.body
    found = await stored(bus)  # the same id twice: stored once
    assert [(one["subject"], one["data"]) for one in found] == [("thing/ä", {"answer": 42})]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {base64.b64encode(b'any:wrong').decode()}"},
        {"Authorization": "Basic %%%"},
        {"X_Mediabus_Token": "wrong"},
    ],
)
async def test_request_without_the_token_is_refused(
    url: str, bus: Bus, headers: dict[str, str]
) -> None:
    reply = await send(url, event("1"), **headers)
    assert (reply.status, reply.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert await stored(bus) == []


@pytest.mark.parametrize(
    ("suffix", "headers"),
    [
        ("", {"Authorization": f"Basic {base64.b64encode(f'me:{TOKEN}'.encode()).decode()}"}),
        ("", {"X_Mediabus_Token": TOKEN}),
        ("", {"Authorization": TOKEN}),
        (f"?access_token={TOKEN}", {}),
    ],
)
async def test_token_is_accepted_in_each_place(
    url: str, suffix: str, headers: dict[str, str]
) -> None:
    assert (await send(url + suffix, event("1"), **headers)).status == 200


async def test_endpoint_is_off_without_a_token(bus: Bus) -> None:
    async with serving_endpoint(CloudEvents(bus, None).receive) as base:
        reply = await send(base, event("1"), Authorization="Bearer ")
    assert (reply.status, "MEDIABUS_INGEST_TOKEN" in reply.body["error"]) == (404, True)


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (b"", codec.CONTENT_TYPE, "not a CloudEvents 1.0 envelope"),
        (b"{", codec.CONTENT_TYPE, "not a CloudEvents 1.0 envelope"),
        (b"\xff\xfe", codec.CONTENT_TYPE, "not a CloudEvents 1.0 envelope"),
        (b"[" * 50_000, BATCH, "not a batch of CloudEvents"),
        (b'{"a":' * 50_000, codec.CONTENT_TYPE, "not a CloudEvents 1.0 envelope"),
        (b"{}", BATCH, "not a batch of CloudEvents"),
        (b"[]", codec.CONTENT_TYPE, "this is a batch"),
        (b"<event/>", "application/cloudevents+xml", "events are JSON"),
        (event("1", type="job.executed", data={}), codec.CONTENT_TYPE, "job_name"),
        (event("1", specversion="0.3"), codec.CONTENT_TYPE, "specversion"),
        (event("1", data="a\0b"), codec.CONTENT_TYPE, "NUL"),
        (event("1", source="mediabus/media"), codec.CONTENT_TYPE, "only mediabus"),
        (event("1", type="download.mine"), codec.CONTENT_TYPE, "call the operation"),
    ],
)
async def test_invalid_event_is_refused_with_the_reason(
    url: str, bus: Bus, body: Any, content_type: str, reason: str
) -> None:
    reply = await post(url, body, Content_Type=content_type)
    assert reply.status == 400
    assert reason in (reply.body.get("reason") or reply.body["error"])
    assert await stored(bus) == []


async def test_actor_of_an_event_is_never_proven(url: str, bus: Bus) -> None:
    claimed = event("1", actortype="user", actorid="42", actorverified=True)
    assert (await post(url, claimed)).status == 200
    found = (await stored(bus))[0]
    assert (found["actorid"], "actorverified" in found) == ("42", False)


async def test_batch_is_answered_per_event(url: str, bus: Bus) -> None:
    reply = await post(url, [event("1"), event("2", type=""), event("3")], Content_Type=BATCH)
    assert reply.status == 207
    assert [one["status"] for one in reply.body["events"]] == ["stored", "invalid", "stored"]
    assert "type" in reply.body["events"][1]["reason"]
    assert [one["id"] for one in await stored(bus)] == ["1", "3"]
    empty = await post(url, [], Content_Type=BATCH)
    assert (empty.status, empty.body) == (200, {"events": []})
    assert (await post(url, [{}], Content_Type=BATCH)).status == 400


async def test_batch_keeps_its_order_and_is_limited(url: str, bus: Bus) -> None:
    batch = [event(str(number)) for number in range(200)]
    assert (await post(url, batch, Content_Type=BATCH)).status == 200
    assert [one["id"] for one in await stored(bus)] == [str(number) for number in range(200)]
    reply = await post(url, [{}] * (MAX_BATCH + 1), Content_Type=BATCH)
    assert reply.status == 413


async def test_large_body_is_refused(url: str, bus: Bus) -> None:
    large = b" " * 1_000_001
    assert (await post(url, large)).status == 413
    packed = gzip.compress(large)
    assert (await post(url, packed, Content_Encoding="gzip")).status == 413
    assert await stored(bus) == []


async def test_other_methods_are_refused(url: str) -> None:
    reply = await send(url, b"", method="PUT", Authorization=BEARER)
    assert (reply.status, reply.headers["Allow"]) == (405, "POST")


async def test_sender_is_asked_to_retry_while_nats_is_away(
    url: str, bus: Bus, nats: NatsServer
) -> None:
    assert (await post(url, event("1"))).status == 200
    nats.kill()
    single = await post(url, event("2"))
    batch = await post(url, [event("2"), event("3")], Content_Type=BATCH)
    assert [single.status, batch.status] == [503, 503]
    assert [one["status"] for one in batch.body["events"]] == ["unavailable"] * 2
    nats.start()
    while (await post(url, [event("1"), event("2")], Content_Type=BATCH)).status == 503:
        pass
    assert [one["id"] for one in await stored(bus)] == ["1", "2"]

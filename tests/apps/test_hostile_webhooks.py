"""No sender of webhooks makes mediabus wait, compute or remember much."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from yarl import URL

from mediabus.runtime.nats.bus import Bus
from mediabus.schemas import codec
from mediabus.service.apps.sonarr import SonarrSettings
from mediabus.service.ingest.http.body import MAX_BODY
from mediabus.service.ingest.http.webhooks import Webhooks
from tests.fuzz_clients import computes_little
from tests.support.hostile import bomb
from tests.support.http_in import send, serving_endpoint
from tests.support.stream import messages

APP = SonarrSettings(name="sonarr", url="http://127.0.0.1:1", api_key="0123456789abcdef")
CHUNK = b"%x\r\n%b\r\n" % (10_000, b" " * 10_000)


@pytest.fixture
async def hook(bus: Bus) -> AsyncIterator[str]:
    async with serving_endpoint(Webhooks(bus, [APP]).receive) as base:
        yield f"{base}/hooks/sonarr/{APP.token}"


async def begin(hook: str, headers: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send the head of a request."""
    url = URL(hook)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = f"POST {url.path} HTTP/1.1\r\nHost: {url.host}\r\n".encode()
    writer.write(head + headers + b"\r\n\r\n")
    return reader, writer


async def test_body_without_end_is_refused(hook: str) -> None:
    reader, writer = await begin(hook, b"Transfer-Encoding: chunked")
    for _ in range(2 + MAX_BODY // 10_000):
        writer.write(CHUNK)
    async with asyncio.timeout(10):
        assert b" 413 " in await reader.readline()
    writer.close()


async def test_compressed_body_is_measured_after_decompression(hook: str) -> None:
    with computes_little():
        reply = await send(hook, bomb(1 << 28), Content_Encoding="gzip")
    assert reply.status == 413
    small = gzip.compress(b'{"eventType": "Test"}')
    assert (await send(hook, small, Content_Encoding="gzip")).status == 200


async def test_slow_sender_delays_no_other(hook: str) -> None:
    slow = [await begin(hook, b"Content-Length: 1000000") for _ in range(50)]
    for _, writer in slow:
        writer.write(b"{")
    async with asyncio.timeout(10):
        assert (await send(hook, {"eventType": "Grab"})).status == 200
    for _, writer in slow:
        writer.close()


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"1" + b"0" * 400, id="large integer"),
        pytest.param(b"1" + b"0" * 20_000, id="huge integer"),
        pytest.param(b"1e400", id="infinite"),
        pytest.param(rb'"\ud800"', id="lone surrogate"),
        pytest.param(rb'"\u0000"', id="NUL"),
        pytest.param(b'"\xff"', id="not UTF-8"),
        pytest.param(b"[" * 900 + b"]" * 900, id="deep"),
        pytest.param(b'{"a":' * 50_000, id="too deep"),
        pytest.param(b'{"eventType": []}', id="nested"),
    ],
)
async def test_odd_value_anywhere_is_answered_and_what_is_stored_is_valid(
    hook: str, bus: Bus, value: bytes
) -> None:
    bodies: list[Any] = [
        b'{"eventType":%b}' % value,
        b'{"eventType":"Unheard","x":%b}' % value,
        b'{"eventType":"SeriesDelete","series":{"id":%b},"deletedFiles":%b}' % (value, value),
        b'{"eventType":"EpisodeFileDelete","deleteReason":"manualOverride","episodeFile":'
        b'{"path":"/a","size":%b}}' % value,
        b'{"eventType":"ManualInteractionRequired","downloadId":%b}' % value,
        b'{"eventType":"ManualInteractionRequired","downloadInfo":{"title":"a","size":%b}}' % value,
    ]
    for body in bodies:
        with computes_little():
            reply = await send(hook, body)
        assert reply.status in {200, 400}, (body, reply.body)
    for message in await messages(bus):
        codec.decode(message.data or b"")
        json.loads(message.data or b"")

"""Streams and the bucket: made once, adapted where they differ, and never made anew."""

import asyncio

import pytest
from nats.js.api import DiscardPolicy, StreamConfig

from schemas.subjects import (
    DEAD_LETTERS_STREAM,
    DOWNLOAD_STATUS_STREAM,
    EVENTS_STREAM,
    EVENTS_SUBJECTS,
    REPLAY_STREAM,
)
from service.runtime import streams
from service.runtime.bus import Bus, connect
from service.runtime.settings import NatsSettings
from service.runtime.streams import ServerTooOld, download_status, ensure_streams
from tests.support.eventually import eventually
from tests.support.servers import NatsServer
from tests.support.stream import event, names


async def test_the_streams_and_the_bucket_are_made(bus: Bus) -> None:
    events = (await bus.js.stream_info(EVENTS_STREAM)).config
    assert events.subjects == [EVENTS_SUBJECTS]
    assert events.discard == DiscardPolicy.NEW
    assert events.max_age == 30 * 86_400
    assert events.allow_atomic
    letters = (await bus.js.stream_info(DEAD_LETTERS_STREAM)).config
    assert letters.max_age == 0
    assert (await (await download_status(bus)).status()).history == 1


async def test_what_is_there_stays_with_what_is_in_it(bus: Bus, nats_url: str) -> None:
    await bus.publish_envelope(event("kept"))
    await (await download_status(bus)).put("client.item", b"{}")
    before = await bus.js.stream_info(EVENTS_STREAM)
    await ensure_streams(bus, NatsSettings(url=nats_url))
    after = await bus.js.stream_info(EVENTS_STREAM)
    assert before.created == after.created
    assert await names(bus) == ["kept"]
    assert (await (await download_status(bus)).get("client.item")).value == b"{}"


async def test_a_stream_of_another_shape_is_adapted_and_keeps_its_messages_and_limits(
    nats_url: str,
) -> None:
    settings = NatsSettings(url=nats_url, max_age_days=7)
    async with connect(settings, name="test", wait=10) as bus:
        theirs = StreamConfig(
            name=EVENTS_STREAM,
            subjects=["events.*.>"],
            max_bytes=10_000_000,
            max_age=3600,
            max_msg_size=1000,
        )
        await bus.js.add_stream(theirs)
        await bus.publish_envelope(event("kept"))
        await ensure_streams(bus, settings)
        adapted = (await bus.js.stream_info(EVENTS_STREAM)).config
        assert adapted.subjects == [EVENTS_SUBJECTS]
        assert adapted.max_age == 7 * 86_400
        assert adapted.discard == DiscardPolicy.NEW
        assert adapted.allow_atomic
        assert adapted.max_bytes == 10_000_000
        assert adapted.max_msg_size == -1
        assert await names(bus) == ["kept"]


async def test_many_processes_may_make_them_at_once(nats_url: str) -> None:
    settings = NatsSettings(url=nats_url)

    async def one(number: int) -> None:
        async with connect(settings, name=f"process {number}", wait=10) as bus:
            await ensure_streams(bus, settings)

    await asyncio.gather(*(one(number) for number in range(8)))
    async with connect(settings, name="test", wait=10) as bus:
        found = {info.config.name for info in await bus.js.streams_info()}
    assert found == {EVENTS_STREAM, DEAD_LETTERS_STREAM, REPLAY_STREAM, DOWNLOAD_STATUS_STREAM}


async def test_they_are_waited_for_while_jetstream_cannot_make_them(
    nats: NatsServer, nats_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = NatsSettings(url=nats_url)
    caplog.set_level("INFO", "mediabus")
    async with connect(settings, name="test", wait=10) as bus:
        nats.stop()
        making = asyncio.create_task(ensure_streams(bus, settings))
        await asyncio.to_thread(nats.start)
        await asyncio.wait_for(making, 20)
        assert await bus.js.streams_info()


async def test_replicas_without_a_cluster_are_said_and_waited_for(
    nats_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = NatsSettings(url=nats_url, replicas=3)
    async with connect(settings, name="test", wait=10) as bus:
        making = asyncio.create_task(ensure_streams(bus, settings))
        await eventually(lambda: "ask for 3 replicas (nats.replicas)" in caplog.text)
        assert not making.done()
        making.cancel()


async def test_what_the_server_refuses_is_raised_and_not_tried_for_ever(nats_url: str) -> None:
    settings = NatsSettings(url=nats_url)
    async with connect(settings, name="test", wait=10) as bus:
        await bus.js.add_stream(StreamConfig(name="THEIRS", subjects=["events.media.>"]))
        with pytest.raises(Exception, match="subjects overlap"):
            await asyncio.wait_for(ensure_streams(bus, settings), 10)


async def test_a_server_that_is_too_old_is_refused_by_its_version(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "NEEDS_SERVER", (99, 0, 0))
    settings = NatsSettings(url=nats_url)
    async with connect(settings, name="test", wait=10) as bus:
        with pytest.raises(ServerTooOld, match=r"is too old: mediabus needs 99\.0\.0 or newer"):
            await ensure_streams(bus, settings)
        assert await bus.js.streams_info() == []

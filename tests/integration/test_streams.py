"""Streams and the bucket: created once, updated where they differ, never recreated."""

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from mediabus.runtime.nats import streams
from mediabus.runtime.nats.bus import Bus, connect
from mediabus.runtime.nats.ownership import DESCRIPTIONS, INSTALLATION, NotOurs
from mediabus.runtime.nats.refusals import StreamRefused
from mediabus.runtime.nats.stream_configs import events_stream
from mediabus.runtime.nats.streams import ServerTooOld, download_status, ensure_streams
from mediabus.runtime.settings import NatsSettings, Settings
from mediabus.schemas.subjects import (
    DEAD_LETTERS_STREAM,
    DOWNLOAD_STATUS_STREAM,
    EVENTS_STREAM,
    EVENTS_SUBJECTS,
    REPLAY_STREAM,
)
from tests.support.commands import mediabus
from tests.support.eventually import eventually
from tests.support.processes import processes
from tests.support.servers import NatsServer, nats_server
from tests.support.stream import event, names


async def test_the_streams_and_the_bucket_are_created(bus: Bus) -> None:
    events = (await bus.js.stream_info(EVENTS_STREAM)).config
    assert events.subjects == [EVENTS_SUBJECTS]
    assert events.discard == DiscardPolicy.NEW
    assert events.max_age == 30 * 86_400
    assert events.allow_atomic
    letters = (await bus.js.stream_info(DEAD_LETTERS_STREAM)).config
    assert letters.max_age == 0
    assert (await (await download_status(bus)).status()).history == 1


async def test_existing_streams_keep_their_messages(bus: Bus, nats_url: str) -> None:
    await bus.publish_envelope(event("kept"))
    await (await download_status(bus)).put("client.item", b"{}")
    before = await bus.js.stream_info(EVENTS_STREAM)
    await ensure_streams(bus, NatsSettings(url=nats_url))
    after = await bus.js.stream_info(EVENTS_STREAM)
    assert before.created == after.created
    assert await names(bus) == ["kept"]
    assert (await (await download_status(bus)).get("client.item")).value == b"{}"


async def test_an_updated_stream_keeps_its_messages_and_limits(
    nats_url: str,
) -> None:
    settings = NatsSettings(url=nats_url, max_age_days=7)
    async with connect(settings, name="test", wait=10) as bus:
        theirs = StreamConfig(
            name=EVENTS_STREAM,
            description=DESCRIPTIONS[EVENTS_STREAM],
            subjects=["events.*.>"],
            max_bytes=10_000_000,
            max_age=3600,
            max_msg_size=1000,
        )
        await bus.js.add_stream(theirs)
        await bus.publish_envelope(event("kept"))
        await ensure_streams(bus, settings)
        updated = (await bus.js.stream_info(EVENTS_STREAM)).config
        assert updated.subjects == [EVENTS_SUBJECTS]
        assert updated.max_age == 7 * 86_400
        assert updated.discard == DiscardPolicy.NEW
        assert updated.allow_atomic
        assert updated.max_bytes == 10_000_000
        assert updated.max_msg_size == -1
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


async def test_replicas_without_a_cluster_are_logged_and_waited_for(
    nats_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = NatsSettings(url=nats_url, replicas=3)
    async with connect(settings, name="test", wait=10) as bus:
        making = asyncio.create_task(ensure_streams(bus, settings))
        await eventually(lambda: has_reason(caplog, "nats.replicas is 3"))
        assert not making.done()
        making.cancel()


async def test_a_refused_stream_raises_without_retries(nats_url: str) -> None:
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


def has_reason(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    """Return whether a log record has the text in its field ``reason``."""
    return any(text in getattr(record, "reason", "") for record in caplog.records)


OURS, THEIRS = str(uuid.uuid4()), str(uuid.uuid4())
NAMES = [EVENTS_STREAM, DEAD_LETTERS_STREAM, REPLAY_STREAM, DOWNLOAD_STATUS_STREAM]


async def marks(bus: Bus) -> set[str | None]:
    found = [(await bus.js.stream_info(name)).config.metadata or {} for name in NAMES]
    return {metadata.get(INSTALLATION) for metadata in found}


async def test_each_stream_has_the_id_of_its_installation(nats_url: str) -> None:
    settings = NatsSettings(url=nats_url)
    async with connect(settings, name="test", wait=10) as bus:
        bus.installation = OURS
        await ensure_streams(bus, settings)
        assert await marks(bus) == {OURS}


async def test_streams_of_0_1_0_are_adopted_once(bus: Bus) -> None:
    """They have no id: the first installation to start gets them."""
    assert await marks(bus) == {None}
    bus.installation = OURS
    await ensure_streams(bus, NatsSettings())
    assert await marks(bus) == {OURS}
    bus.installation = THEIRS
    with pytest.raises(NotOurs, match=f"another installation of mediabus, {OURS}; .*{THEIRS}"):
        await ensure_streams(bus, NatsSettings())
    assert await marks(bus) == {OURS}


@pytest.mark.parametrize("name", NAMES)
async def test_a_stream_of_another_program_is_named_and_left_alone(
    nats_url: str, name: str
) -> None:
    settings = NatsSettings(url=nats_url)
    async with connect(settings, name="test", wait=10) as bus:
        theirs = StreamConfig(name=name, subjects=["theirs.>"], description="orders", max_age=60)
        theirs.duplicate_window = 60
        await bus.js.add_stream(theirs)
        before = (await bus.js.stream_info(name)).config
        with pytest.raises(
            NotOurs, match=f"{name} that mediabus did not create .*'orders'.*account"
        ):
            await ensure_streams(bus, settings)
        assert (await bus.js.stream_info(name)).config == before
        assert [info.config.name for info in await bus.js.streams_info()] == [name]


async def test_a_process_waits_while_another_program_owns_the_stream(
    bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    await bus.js.delete_stream(EVENTS_STREAM)
    await bus.js.add_stream(StreamConfig(name=EVENTS_STREAM, subjects=["theirs.>"]))
    making = asyncio.create_task(ensure_streams(bus, NatsSettings(), waits=True))
    await eventually(lambda: has_reason(caplog, "that mediabus did not create"))
    assert not making.done()
    making.cancel()


async def test_a_second_installation_on_the_same_nats_does_not_start(
    settings: Settings, database_url: str, tmp_path: Path
) -> None:
    async with connect(settings.nats, name="test", wait=10) as bus:
        bus.installation = THEIRS
        await ensure_streams(bus, settings.nats)
    for command in ("service", "monitor", "persist"):
        outcome = await mediabus(
            command,
            MEDIABUS_NATS_URL=settings.nats.url or "",
            MEDIABUS_DATABASE_URL=database_url,
            MEDIABUS_HTTP_PORT="0",
            MEDIABUS_DATA_DIR=str(tmp_path),
        )
        assert outcome.code == 1
        assert f"another installation of mediabus, {THEIRS}" in outcome.err
        assert "change the id in its table mediabus_installation" in outcome.err
        assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"storage": StorageType.MEMORY}, "stored in memory"),
        ({"retention": RetentionPolicy.WORK_QUEUE}, "retention"),
    ],
)
async def test_a_stream_that_no_update_can_fix_is_refused(
    nats_url: str, change: dict[str, object], said: str
) -> None:
    settings = NatsSettings(url=nats_url)
    async with connect(settings, name="test", wait=10) as bus:
        await bus.js.add_stream(events_stream(settings).evolve(**change))
        with pytest.raises(StreamRefused, match=said):
            await ensure_streams(bus, settings)


async def test_a_stream_without_acknowledgements_is_updated(nats_url: str) -> None:
    settings = NatsSettings(url=nats_url)
    async with connect(settings, name="test", wait=10) as bus:
        made = events_stream(settings).evolve(no_ack=True, allow_atomic=False)
        await bus.js.add_stream(made)
        await ensure_streams(bus, settings)
        await bus.publish_envelope(event("kept"))


@pytest.mark.parametrize("days", [0.0005, 1.0, 400.0])
async def test_an_age_below_the_duplicate_window_is_accepted(nats_url: str, days: float) -> None:
    for settings in (NatsSettings(url=nats_url, max_age_days=days), NatsSettings(url=nats_url)):
        async with connect(settings, name="test", wait=10) as bus:
            await asyncio.wait_for(ensure_streams(bus, settings), 10)
            config = (await bus.js.stream_info(EVENTS_STREAM)).config
            assert config.max_age == pytest.approx(settings.max_age_days * 86_400)
            assert config.duplicate_window == pytest.approx(
                min(120, settings.max_age_days * 86_400)
            )


NOT_READY = "streams not ready, will retry"
LIMITED = """
accounts {
  A { jetstream: {max_file: 1GB, max_bytes_required: true, disk_max_stream_bytes: 100MB},
      users: [{user: a, password: a}] },
  FEW { jetstream: {max_file: 1GB, max_streams: 3}, users: [{user: few, password: a}] },
  NONE { users: [{user: none, password: a}] }
}
"""


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_server(tmp_path, config_extra=LIMITED) as server:
        yield server


@pytest.mark.parametrize(
    ("user", "max_bytes", "said"),
    [
        ("a", None, r"max bytes set: set nats\.max_bytes"),
        ("a", 200_000_000, r"account limit max stream bytes: lower nats\.max_bytes"),
        ("few", None, "maximum number of streams reached: raise max_streams"),
        ("none", None, "JetStream not enabled for account: enable JetStream"),
    ],
)
async def test_limits_of_an_account_are_reported_with_advice(
    limited: NatsServer, user: str, max_bytes: int | None, said: str
) -> None:
    settings = NatsSettings(url=limited.url, user=user, password="a", max_bytes=max_bytes)
    async with connect(settings, name="test", wait=10) as bus:
        with pytest.raises(StreamRefused, match=said):
            await asyncio.wait_for(ensure_streams(bus, settings), 10)


async def test_each_stream_may_have_a_limit_in_bytes(limited: NatsServer) -> None:
    per_stream: dict[str, int] = dict.fromkeys(
        ("EVENTS", "DEAD_LETTERS", "REPLAY", "download_status"), 20_000_000
    )
    for given in (10_000_000, per_stream):
        settings = msgspec.convert(
            {"url": limited.url, "user": "a", "password": "a", "max_bytes": given}, NatsSettings
        )
        async with connect(settings, name="test", wait=10) as bus:
            await ensure_streams(bus, settings)
            found = [(await bus.js.stream_info(name)).config.max_bytes for name in NAMES]
        assert set(found) == {10_000_000 if given == 10_000_000 else 20_000_000}


async def test_a_server_without_jetstream_is_reported(tmp_path: Path, database_url: str) -> None:
    with nats_server(tmp_path) as server:
        config = tmp_path / "nats.conf"
        config.write_text(config.read_text().replace("jetstream {", "#"))
        server.stop()
        await asyncio.to_thread(server.start)
        outcome = await mediabus(
            "service",
            MEDIABUS_NATS_URL=server.url,
            MEDIABUS_DATABASE_URL=database_url,
            MEDIABUS_HTTP_PORT="0",
        )
    assert outcome.code == 1
    assert "JetStream is not enabled on the NATS server: start it with" in outcome.err
    assert "Traceback" not in outcome.err


async def test_a_smaller_max_payload_for_a_while_ends_no_process(
    nats: NatsServer, settings: Settings, tmp_path: Path
) -> None:
    config = tmp_path / "nats" / "nats.conf"
    large = config.read_text()
    with processes(settings, tmp_path, "service", "persist", "monitor") as started:
        for text, is_ready in ((large.replace("8MB", "100KB"), False), (large, True)):
            await asyncio.to_thread(nats.stop)
            config.write_text(text)
            await asyncio.to_thread(nats.start)
            if not is_ready:
                await eventually(lambda: NOT_READY in started[0].log.read_text())
        await eventually(lambda: all(process.is_ready for process in started), within=20)

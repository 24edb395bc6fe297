"""Attacks on a real server show what the keys of `mediabus secure` cannot do."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, StreamConfig, StreamSource
from nats.js.errors import APIError

from mediabus.consumers.consume import consume
from mediabus.consumers.dead_letters import DeadLetters
from mediabus.consumers.verdict import Rejected
from mediabus.runtime.api.serve import Headers, endpoint, serving
from mediabus.runtime.nats.bus import Bus, CannotConnect, PublishFailed, connect
from mediabus.runtime.nats.streams import ensure_streams
from mediabus.runtime.settings import NatsSettings
from mediabus.schemas import codec
from mediabus.schemas.docs.examples import example
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import JobExecuted, MediaItemRemoved
from mediabus.schemas.identity import Actor, ProvenActor
from mediabus.schemas.operations.requests import GetById, Request
from mediabus.service.ingest.serve import serve_keys
from mediabus.service.outbox.publish import Outgoing, publish_all
from tests.support.attack import Seen, attack_by_replies, attack_directly, open_batches, quiet
from tests.support.eventually import eventually
from tests.support.secured import SecuredNats, secured_nats

EVENTS = 20
CLIENT_KEYS = ("publisher", "program-hook", "user-42", "viewer", "viewer-tv", "consumer-mine")
PROCESS_KEYS = ("monitor", "persister")


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[SecuredNats]:
    with secured_nats(tmp_path) as server:
        yield server


class Calls:
    """Records which operations were called, and by whom."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Actor]] = []

    def endpoint(self, subject: str) -> Any:
        async def handle(_: Request, actor: Actor, __: Headers) -> Request:
            self.calls.append((subject, actor))
            return GetById(id=uuid4())

        return endpoint(subject, Request, handle)


@pytest.fixture
def calls() -> Calls:
    return Calls()


OPERATIONS = ("media.create", "media.delete", "media.list", "media.get", "downloads.cancel")


@pytest.fixture
async def service(secured: SecuredNats, calls: Calls) -> AsyncIterator[Bus]:
    """Run the service in the account of the streams, with events that are not stored yet."""
    async with connect(secured.settings("service"), name="service", wait=10) as bus:
        await ensure_streams(bus, NatsSettings())
        endpoints = [calls.endpoint(subject) for subject in OPERATIONS]
        async with (
            serving(bus, name="mediabus-media", description="", endpoints=endpoints),
            serve_keys(bus),
            connect(secured.settings("persister"), name="persister", wait=10) as persister,
            connect(secured.settings("monitor"), name="monitor", wait=10) as monitor,
        ):
            await persister.js.add_consumer(
                "EVENTS", ConsumerConfig(durable_name="persister", ack_policy=AckPolicy.EXPLICIT)
            )
            for number in range(EVENTS):
                await bus.publish_envelope(job(f"job {number}"))
            await monitor.js.publish("$KV.download_status.client", b"{}")
            await persister.js.publish("dead_letters.persister.invalid", b"x")
            yield bus


def job(name: str, **changes: object) -> Envelope:
    envelope = Envelope.of(JobExecuted(job_name=name), actor=Actor("job", "nightly"))
    return msgspec.structs.replace(envelope, **{"source": "my/program", **changes})


async def stored(service: Bus, number: int = -1) -> Envelope:
    """Return an event of the stream, the last one by default."""
    last = (await service.js.stream_info("EVENTS")).state.last_seq
    raw = await service.js.get_msg("EVENTS", last + 1 + number)
    return codec.decode(raw.data or b"", raw.headers, trust_actor=True)


@pytest.mark.parametrize("key", [*CLIENT_KEYS, *PROCESS_KEYS])
async def test_no_key_writes_through_a_reply_subject(
    secured: SecuredNats, service: Bus, calls: Calls, key: str
) -> None:
    before = await Seen.of(secured.settings("service"))
    others = f"{service.nc.new_inbox()}.x"
    async with connect(secured.settings(key), name=key, wait=10) as attacker:
        await attack_by_replies(attacker, key, others)
        await attack_directly(attacker, others)
        await quiet(attacker)
    after = await Seen.of(secured.settings("service"))
    for name in ("EVENTS", "DEAD_LETTERS", "REPLAY", "KV_download_status"):
        own = own_subjects(key)
        assert without(after.streams[name][0], own) == without(before.streams[name][0], own), name
        assert after.streams[name][1] == before.streams[name][1]
    assert after.consumers == before.consumers
    if key != "persister":
        assert after.acknowledged == before.acknowledged
    mine = {"publisher": ("job", "publisher"), "program-hook": ("job", "hook")}
    mine["user-42"] = ("user", "42")
    for subject, actor in calls.calls:
        if subject not in {"media.list", "media.get"}:
            assert isinstance(actor, ProvenActor)
            assert (actor.type, actor.id) == mine[key]


def own_subjects(key: str) -> tuple[str, ...]:
    """Return the subjects that a process may write to."""
    return {
        "monitor": ("events.", "$KV."),
        "persister": ("dead_letters.persister.",),
    }.get(key, ("nothing",))


def without(subjects: dict[str, int], own: tuple[str, ...]) -> dict[str, int]:
    return {name: count for name, count in subjects.items() if not name.startswith(own)}


@pytest.mark.parametrize("key", CLIENT_KEYS)
async def test_no_key_creates_push_consumers_streams_or_mirrors(
    secured: SecuredNats, service: Bus, key: str
) -> None:
    before = await Seen.of(secured.settings("service"))
    mirror = StreamConfig(name="MINE", mirror=StreamSource(name="EVENTS"))
    async with connect(secured.settings(key), name=key, wait=10) as attacker:
        plain = attacker.nc.jetstream(timeout=2)
        for js in (plain, attacker.js):
            for name in ("mine", "persister", "monitor"):
                for target in ("$JS.API.STREAM.PURGE.EVENTS", "events.a.b.c.d", "media.delete"):
                    config = ConsumerConfig(
                        durable_name=name, deliver_subject=target, headers_only=True
                    )
                    with pytest.raises((APIError, NatsError)):
                        await js.add_consumer("EVENTS", config)
            with pytest.raises((APIError, NatsError)):
                await js.add_stream(mirror)
            with pytest.raises((APIError, NatsError)):
                await js.delete_consumer("EVENTS", "persister")
        await quiet(attacker)
    assert await Seen.of(secured.settings("service")) == before
    assert service.is_connected


async def test_a_consumer_key_creates_its_own_two_consumers_only(
    secured: SecuredNats, service: Bus
) -> None:
    async with connect(secured.settings("consumer-mine"), name="mine", wait=10) as bus:
        plain = ConsumerConfig(durable_name="mine", ack_policy=AckPolicy.EXPLICIT)
        assert (await bus.js.add_consumer("EVENTS", plain)).name == "mine"
        replayed = plain.evolve(filter_subject="replay.mine.events.>")
        assert (await bus.js.add_consumer("REPLAY", replayed)).name == "mine"
        with pytest.raises(APIError, match="replayed to itself"):
            await bus.js.add_consumer("REPLAY", plain.evolve(filter_subject="replay.>"))
        for number in range(5):
            with pytest.raises((APIError, NatsError)):
                await bus.js.add_consumer("EVENTS", plain.evolve(durable_name=f"mine-{number}"))
    assert (await service.js.stream_info("EVENTS")).state.consumer_count == 2


@pytest.mark.parametrize("key", ["publisher", "program-hook", "user-42"])
async def test_atomic_batches_are_not_held_open(
    secured: SecuredNats, service: Bus, key: str
) -> None:
    async with connect(secured.settings(key), name=key, wait=10) as attacker:
        await open_batches(attacker, "events.system.job.executed.-")
    events = [job(f"batched {number}") for number in range(3)]
    subject = "events.system.job.executed.-"
    await publish_all(service, [Outgoing(one.id, subject, codec.encode(one)) for one in events])
    info = await service.js.stream_info("EVENTS")
    assert info.state.messages == EVENTS + 3


@pytest.mark.parametrize("key", CLIENT_KEYS)
async def test_no_key_receives_the_replies_to_others(
    secured: SecuredNats, service: Bus, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    received: list[str] = []

    async def receive(message: Any) -> None:
        received.append(message.subject)

    async with (
        connect(secured.settings(key), name=key, wait=10) as attacker,
        connect(secured.settings("user-7"), name="victim", wait=10) as victim,
    ):
        prefix = victim.nc.new_inbox().rpartition(".")[0]
        wanted = ("_INBOX.>", f"{prefix}.>", ">", "$JS.>", "_R_.>", "in.>", "media.>", "$SYS.>")
        for subject in wanted:
            await attacker.nc.subscribe(subject, cb=receive)
        await attacker.nc.flush()
        caplog.clear()
        for _ in range(5):
            await victim.nc.request("media.create", b"{}", timeout=5)
        await quiet(attacker)
    assert received == []
    assert service.is_connected


@pytest.mark.parametrize(
    ("key", "actor"),
    [("user-42", "user:42"), ("program-hook", "job:hook"), ("publisher", "job:publisher")],
)
async def test_the_actor_is_derived_from_the_key(
    secured: SecuredNats, service: Bus, calls: Calls, key: str, actor: str
) -> None:
    claimed = {"Mediabus-Actor-Type": "user", "Mediabus-Actor-Id": "1"}
    async with connect(secured.settings(key), name=key, wait=10) as bus:
        await bus.nc.request("media.delete", b"{}", timeout=5, headers=claimed)
        await bus.publish_envelope(job("a", actor=Actor("user", "1")))
    assert [(subject, str(caller)) for subject, caller in calls.calls] == [("media.delete", actor)]
    assert isinstance(calls.calls[0][1], ProvenActor)
    event = await stored(service)
    assert (str(event.actor), event.actor_verified) == (actor, True)
    assert event.source == f"{actor.replace(':', '/')}/my/program"


async def test_events_of_the_service_have_an_unverified_actor(service: Bus) -> None:
    event = await stored(service)
    assert (str(event.actor), event.actor_verified) == ("job:nightly", False)


REFUSED = {
    "a source of mediabus": {"source": "mediabus/media"},
    "mediabus as the source": {"source": "Mediabus"},
    "a type of mediabus": {
        "type": "media_item.removed",
        "category": "media",
        "data": example(MediaItemRemoved).data,
    },
    "a type of its kind": {"type": "download.invented"},
}


@pytest.mark.parametrize("changes", REFUSED.values(), ids=REFUSED)
async def test_an_event_reserved_for_mediabus_is_dead_lettered(
    secured: SecuredNats, service: Bus, changes: dict[str, object]
) -> None:
    envelope = job("a", event=None, **changes)
    async with connect(secured.settings("program-hook"), name="hook", wait=10) as bus:
        with pytest.raises(PublishFailed, match="only mediabus"):
            await bus.store("events.system.job.executed.-", codec.encode(envelope), "1")
    assert (await service.js.stream_info("EVENTS")).state.messages == EVENTS
    dead_letter = await service.js.get_last_msg("DEAD_LETTERS", "dead_letters.ingest.invalid")
    assert (dead_letter.headers or {})["Mediabus-Subject"].startswith("in.job.hook.events.")
    assert dead_letter.data == codec.encode(envelope)


async def test_a_subject_of_mediabus_is_rejected_for_any_event(
    secured: SecuredNats, service: Bus
) -> None:
    async with connect(secured.settings("user-42"), name="42", wait=10) as bus:
        with pytest.raises(PublishFailed, match="only mediabus publishes media_item"):
            await bus.store(
                "events.media.media_item.removed.1", codec.encode(job("a")), str(uuid4())
            )
    assert (await service.js.stream_info("EVENTS")).state.messages == EVENTS


async def test_an_event_published_several_times_is_stored_once_per_actor(
    secured: SecuredNats, service: Bus
) -> None:
    envelope = job("once")
    async with connect(secured.settings("program-hook"), name="hook", wait=10) as bus:
        for _ in range(3):
            await bus.publish_envelope(envelope)
    async with connect(secured.settings("user-42"), name="42", wait=10) as other:
        await other.publish_envelope(
            envelope
        )  # not dropped as a duplicate of the other actor's event
    assert (await service.js.stream_info("EVENTS")).state.messages == EVENTS + 2


async def test_a_key_cannot_reserve_a_message_id_of_mediabus(
    secured: SecuredNats, service: Bus
) -> None:
    upcoming = job("upcoming")
    async with connect(secured.settings("program-hook"), name="hook", wait=10) as bus:
        await bus.store("events.system.job.executed.-", codec.encode(job("b")), str(upcoming.id))
    await service.publish_envelope(upcoming)
    assert (await service.js.stream_info("EVENTS")).state.messages == EVENTS + 2


async def test_a_dead_letter_holds_the_delivered_message(
    secured: SecuredNats, service: Bus
) -> None:
    forged = codec.encode(job("forged", actor=Actor("user", "1"), actor_verified=True))
    headers = {
        "Mediabus-Stream": "EVENTS",
        "Mediabus-Stream-Seq": "3",
        "Mediabus-Subject": "events.media.media_item.removed.1",
        "Mediabus-Reason": "mine",
        "Nats-Msg-Id": "persister.EVENTS.4",
    }
    async with connect(secured.settings("consumer-mine"), name="mine", wait=10) as bus:
        await bus.js.publish("dead_letters.mine.rejected", forged, headers=headers)
        for wrong in ({"Mediabus-Stream": "DEAD_LETTERS"}, {"Mediabus-Stream-Seq": "999"}):
            with pytest.raises(APIError):
                await bus.js.publish("dead_letters.mine.failed", b"", headers={**headers, **wrong})
    dead_letter = await service.js.get_last_msg("DEAD_LETTERS", "dead_letters.mine.rejected")
    original = await service.js.get_msg("EVENTS", 3)
    assert dead_letter.data == original.data
    assert (dead_letter.headers or {})["Mediabus-Subject"] == original.subject
    assert (dead_letter.headers or {})["Mediabus-Reason"] == "mine"


async def test_a_deleted_key_cannot_connect(secured: SecuredNats, service: Bus) -> None:
    file = secured.keys / "user-7.nk"
    async with connect(secured.settings("user-7"), name="7", wait=10) as bus:
        await bus.nc.request("media.list", b"{}", timeout=5)
    seed = file.read_bytes()
    file.unlink()
    secured.secure()
    assert "user-7" not in (secured.keys / "nats.conf").read_text()
    secured.reload()
    file.write_bytes(seed)

    async def is_locked_out() -> bool:
        try:
            async with connect(secured.settings("user-7"), name="7", wait=1):
                return False
        except CannotConnect as error:
            return "Authorization Violation" in str(error)

    await eventually(is_locked_out, within=20)
    async with connect(secured.settings("user-42"), name="42", wait=10) as other:
        await other.nc.request("media.list", b"{}", timeout=5)
    assert service.is_connected


async def test_each_key_has_its_own_limits(
    secured: SecuredNats, service: Bus, calls: Calls, caplog: pytest.LogCaptureFixture
) -> None:
    viewer = secured.settings("viewer-tv")
    async with contextlib.AsyncExitStack() as stack:
        for number in range(32):
            here = connect(viewer, name=f"tv {number}", wait=10)
            bus = await stack.enter_async_context(here)
        with pytest.raises(CannotConnect, match="maximum account active connections"):
            await stack.enter_async_context(connect(viewer, name="one more", wait=2))
        other = connect(secured.settings("viewer"), name="another", wait=10)
        await stack.enter_async_context(other)
        await bus.nc.publish("media.list", bytes(100_000))
        await eventually(
            lambda: "NATS connection lost" in caplog.text
        )  # the server closes the connection
    assert calls.calls == []
    assert service.is_connected


async def test_a_consumer_with_a_key_reads_replays_and_dead_letters(
    secured: SecuredNats, service: Bus
) -> None:
    seen: list[str] = []

    async def handle(envelope: Envelope) -> None:
        seen.append(str(envelope.fields()["job_name"]))
        if envelope.fields()["job_name"] == "job 7":
            raise Rejected("not this one")

    settings = secured.settings("consumer-mine")
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(consume("mine", handle, from_start=True, settings=settings))
        await eventually(lambda: len(set(seen)) == EVENTS, within=20)
        await eventually(lambda: dead_letters_on(service, "dead_letters.mine.rejected"), within=20)

        async def is_replayed() -> bool:
            with contextlib.suppress(APIError):
                await service.js.consumer_info("REPLAY", "mine")
                return True
            return False

        await eventually(is_replayed, within=20)
        old = job("old")
        await service.js.publish("replay.mine.events.system.job.executed.-", codec.encode(old))
        await eventually(lambda: "old" in seen, within=20)
        running.cancel()
    assert [name for name in seen if name != "job 7"] == [
        *(f"job {number}" for number in range(EVENTS) if number != 7),
        "old",
    ]


async def dead_letters_on(service: Bus, subject: str) -> int:
    info = await service.js.stream_info("DEAD_LETTERS", subjects_filter=subject)
    return (info.state.subjects or {}).get(subject, 0)


async def test_a_retried_invalid_event_is_rejected_again(
    secured: SecuredNats, service: Bus
) -> None:
    async with connect(secured.settings("program-hook"), name="hook", wait=10) as bus:
        with pytest.raises(PublishFailed):
            await bus.store(
                "events.system.job.executed.-", codec.encode(job("a", source="mediabus/a")), "1"
            )
    number = (await service.js.stream_info("DEAD_LETTERS")).state.last_seq
    with pytest.raises(PublishFailed, match="only mediabus may use a source"):
        await DeadLetters(service).retry(number)
    assert (await service.js.stream_info("EVENTS")).state.messages == EVENTS
    assert await dead_letters_on(service, "dead_letters.ingest.invalid") == 1

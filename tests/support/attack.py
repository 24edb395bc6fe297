"""Attacks with a key on NATS: each request that it may send, with each reply subject."""

import asyncio
import contextlib
import dataclasses
from typing import Any, Final

import msgspec
from nats.errors import Error as NatsError

from mediabus.runtime.nats.bus import Bus, connect
from mediabus.runtime.settings import NatsSettings
from mediabus.secure.nats_keys import _role

API: Final = "$JS.API"
OTHER_API: Final = "$JS.mediabus.API"
STREAMS: Final = ("EVENTS", "DEAD_LETTERS", "REPLAY", "KV_download_status")

CALLS: Final = (
    *(f"STREAM.PURGE.{stream}" for stream in STREAMS),
    *(f"STREAM.DELETE.{stream}" for stream in STREAMS),
    *(f"STREAM.UPDATE.{stream}" for stream in STREAMS),
    "STREAM.CREATE.MINE",
    "STREAM.MSG.DELETE.EVENTS",
    "STREAM.SNAPSHOT.EVENTS",
    "STREAM.LEADER.STEPDOWN.EVENTS",
    "CONSUMER.DELETE.EVENTS.persister",
    "CONSUMER.PAUSE.EVENTS.persister",
    "CONSUMER.UNPIN.EVENTS.persister",
    "CONSUMER.MSG.NEXT.EVENTS.persister",
    "CONSUMER.CREATE.EVENTS",
    "CONSUMER.CREATE.EVENTS.new",
    "CONSUMER.DURABLE.CREATE.EVENTS.persister",
    "ACCOUNT.PURGE.mediabus",
    "ACCOUNT.INFO",
)
TARGETS: Final = (
    *(f"{API}.{call}" for call in CALLS),
    *(f"{OTHER_API}.{call}" for call in CALLS),
    "$JS.ACK.EVENTS.persister.1.1.1.1.0",
    "$JS.FC.EVENTS.persister.a",
    "$KV.download_status.client",
    "$SYS.REQ.SERVER.PING",
    "$SYS.REQ.ACCOUNT.mediabus.CONNZ",
    "events.media.media_item.removed.1",
    "events.a.b.c.-",
    "replay.mine.events.a.b.c.-",
    "dead_letters.persister.invalid",
    "dead_letters.mine.invalid",
    "media.create",
    "media.delete",
    "downloads.cancel",
    "in.user.1.media.create",
    "in.user.1.events.a.b.c.-",
    "mediabus.outbox.recorded",
    "mediabus.monitor.look.client",
    "mediabus.consumers.persister.EVENTS.persister",
    "mediabus.letters.persister.invalid",
    "_R_.AAAAAA.BBBBBB",
)
BODIES: Final = (
    b"",
    b'{"batch":1,"no_wait":true}',
    b'{"seq":1}',
    b'{"seq":999999}',
    b'{"seq":1,"batch":2,"next_by_subj":"events.>"}',
)


def asked_by(name: str) -> list[str]:
    """The subjects that a key may ask, with something in place of the wildcards."""
    role, _ = _role(name)
    subjects = dict.fromkeys(asked.subject for asked in role.asks)
    return [subject.replace("*", "x").replace(">", "x.y.z.-") for subject in subjects]


async def attack_by_replies(bus: Bus, name: str, others_inbox: str) -> None:
    """Send every allowed request with a reply subject that the key may not publish to."""
    for reply in (*TARGETS, others_inbox):
        for subject in asked_by(name):
            for body in BODIES:
                await bus.nc.publish(subject, body, reply=reply)
    await bus.nc.flush(timeout=20)


async def attack_directly(bus: Bus, others_inbox: str) -> None:
    """Publish to where the key may not publish."""
    for subject in (*TARGETS, others_inbox):
        for body in BODIES:
            await bus.nc.publish(subject, body)
    await bus.nc.flush(timeout=20)


async def open_batches(bus: Bus, subject: str, count: int = 60) -> None:
    """Begin atomic batches and never commit them: a stream has room for 50."""
    for number in range(count):
        headers = {"Nats-Batch-Id": f"open-{number}", "Nats-Batch-Sequence": "1"}
        with contextlib.suppress(NatsError, TimeoutError):
            await bus.nc.request(subject, b"{}", timeout=2, headers=headers)


@dataclasses.dataclass
class Seen:
    """What the streams' account holds."""

    streams: dict[str, Any]
    consumers: dict[str, list[str]]
    acknowledged: int

    @classmethod
    async def of(cls, settings: NatsSettings) -> "Seen":
        """As the service's key sees it."""
        async with connect(settings, name="judge", wait=10) as bus:
            streams, consumers = {}, {}
            for name in STREAMS:
                info = await bus.js.stream_info(name, subjects_filter=">")
                subjects = dict(info.state.subjects or {})
                subjects.pop("dead_letters.ingest.invalid", None)  # in the attacker's own name
                streams[name] = (subjects, msgspec.json.encode(info.config.as_dict()))
                consumers[name] = [str(info.state.consumer_count)]
            persister = await bus.js.consumer_info("EVENTS", "persister")
            floor = persister.ack_floor.stream_seq if persister.ack_floor else 0
            delivered = persister.delivered.stream_seq if persister.delivered else 0
            return cls(streams, consumers, floor * 1_000_000 + delivered)


async def quiet(bus: Bus) -> None:
    """Until the server has worked on all that was sent: it answers in order."""
    for _ in range(3):
        await bus.nc.flush(timeout=20)
        await asyncio.sleep(0)

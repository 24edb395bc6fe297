"""Checks of one stream, and of the events that wait in the outbox for it."""

import asyncio
import contextlib
import datetime
from typing import Final

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import DiscardPolicy, StorageType, StreamInfo

from mediabus.commands.output import local_time
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.ownership import is_of_mediabus
from mediabus.runtime.visible import plain

NEARLY_FULL: Final = 0.95
STATISTICS: Final = "$SRV.STATS.mediabus-media"
ANSWER_WITHIN: Final = 0.5


def trouble_of(info: StreamInfo) -> tuple[str, str] | None:
    """Return why a stream cannot store or keep events, and what to do; None if it can."""
    config = info.config
    if not is_of_mediabus(config):
        return "belongs to another program", "give mediabus its own NATS account or server"
    if config.sealed:
        return "sealed: it accepts no messages", "delete it once its events are in the history"
    if config.storage == StorageType.MEMORY:
        return "stored in memory", "delete it and restart the service, which creates it on disk"
    if config.no_ack:
        return "does not acknowledge", "restart the service, which corrects this"
    if full := _fullness(info):
        return full, "raise nats.max_bytes or lower nats.max_age_days"
    return None


def _fullness(info: StreamInfo) -> str | None:
    config, state = info.config, info.state
    limits = (
        ("bytes", state.bytes, config.max_bytes),
        ("messages", state.messages, config.max_msgs),
    )
    for unit, has, limit in limits:
        is_limited = limit is not None and limit > 0 and config.discard == DiscardPolicy.NEW
        if is_limited and limit and has >= NEARLY_FULL * limit:
            return f"full: {has} of {limit} {unit}"
    return None


class Waiting(msgspec.Struct):
    """The state of a relay as its service reports it: see ``RelayState``."""

    waiting: int = 0
    failing_since: datetime.datetime | None = None
    reason: str | None = None

    def __str__(self) -> str:
        since = f" since {local_time(self.failing_since)}" if self.failing_since else ""
        return f"{self.waiting} events wait, NATS refuses them{since}: {plain(self.reason or '')}"


class _Endpoint(msgspec.Struct):
    data: Waiting | None = None


class _Statistics(msgspec.Struct):
    endpoints: list[_Endpoint] = []


async def waiting_events(bus: Bus) -> Waiting | None:
    """Return the state of the relay if it is failing, else None."""
    answers: list[Msg] = []

    async def collect(message: Msg) -> None:
        answers.append(message)

    inbox = bus.nc.new_inbox()
    subscription = await bus.nc.subscribe(inbox, cb=collect)
    await bus.nc.publish(STATISTICS, reply=inbox)
    await asyncio.sleep(ANSWER_WITHIN)  # the number of services is unknown
    with contextlib.suppress(NatsError):
        await subscription.unsubscribe()
    states = (_waiting(answer.data) for answer in answers)
    return next((state for state in states if state and state.reason), None)


def _waiting(body: bytes) -> Waiting | None:
    try:
        endpoints = msgspec.json.decode(body, type=_Statistics).endpoints
    except msgspec.DecodeError:
        return None
    return next((endpoint.data for endpoint in endpoints if endpoint.data), None)

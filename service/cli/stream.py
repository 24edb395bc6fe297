"""The stream of events read from a moment on, in order, each once, through any outage."""

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator
from typing import Final

import click
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy
from nats.js.errors import APIError, NotFoundError

from schemas.identity import uuid7
from schemas.subjects import EVENTS_STREAM
from service.runtime.bus import Bus, CannotConnect
from service.runtime.nats_client import NotAllowed
from service.runtime.pull import Pull, pulling

AT_A_TIME: Final = 500
LOOK_EVERY: Final = 0.5
FORGOTTEN_AFTER: Final = 60.0
"""Seconds after which the server forgets a reader that is gone."""


class _Interrupted(Exception):
    """What was on its way may be lost: read again from the last one that came."""


async def read_stream(
    bus: Bus, subjects: str, since: datetime.datetime | None, *, follow: bool
) -> AsyncIterator[Msg]:
    """The messages from ``since``, or from now on; without ``follow`` it ends where the stream ends
    now. Raises CannotConnect where there is no stream."""
    start = await _start(bus, subjects, since)
    while True:
        try:
            async for message in _read(bus, start, follow=follow):
                yield message
                start = _after(message.metadata.sequence.stream, subjects)
        except _Interrupted:
            await _until_connected(bus)
        except NotAllowed:
            raise
        except (NatsError, APIError, TimeoutError):
            await asyncio.sleep(LOOK_EVERY)
            await _until_connected(bus)
        else:
            return


async def _until_connected(bus: Bus) -> None:
    told = False
    while not bus.is_connected:
        if not told:
            click.secho("NATS is gone: waiting for it", dim=True, err=True)
            told = True
        await asyncio.sleep(0.1)
    if told:
        click.secho("NATS is back", dim=True, err=True)


async def _start(bus: Bus, subjects: str, since: datetime.datetime | None) -> ConsumerConfig:
    try:
        state = (await bus.js.stream_info(EVENTS_STREAM)).state
    except NotFoundError as error:
        raise CannotConnect(
            f"NATS has no stream {EVENTS_STREAM} yet: start mediabus, it makes the stream"
        ) from error
    if since is None:
        return _after(state.last_seq, subjects)
    return ConsumerConfig(
        deliver_policy=DeliverPolicy.BY_START_TIME,
        opt_start_time=since,
        ack_policy=AckPolicy.NONE,
        filter_subject=subjects,
        inactive_threshold=FORGOTTEN_AFTER,
    )


def _after(last: int, subjects: str) -> ConsumerConfig:
    return ConsumerConfig(
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=last + 1,
        ack_policy=AckPolicy.NONE,
        filter_subject=subjects,
        inactive_threshold=FORGOTTEN_AFTER,
    )


async def _read(bus: Bus, start: ConsumerConfig, *, follow: bool) -> AsyncIterator[Msg]:
    """Reads with a consumer of its own. Messages are not acknowledged, so one that was sent into a
    broken connection does not come again: a reconnect, or a number left out, interrupts."""
    config = start.evolve(durable_name=f"tail-{uuid7()}")
    reconnects = bus.nc.stats["reconnects"]
    info = await bus.js.add_consumer(EVENTS_STREAM, config)
    left = info.num_pending or 0
    expected = 1
    async with pulling(bus, stream=EVENTS_STREAM, consumer=config, batch=AT_A_TIME) as pull:
        try:
            while follow or left > 0:
                messages = await _some(pull)
                if not (messages or follow):  # some may have grown too old meanwhile
                    left = await _left(bus, info.name, expected)
                for message in messages:
                    if message.metadata.sequence.consumer != expected:
                        raise _Interrupted
                    expected += 1
                    left -= 1
                    yield message
                if bus.nc.stats["reconnects"] != reconnects or not bus.is_connected:
                    raise _Interrupted
        finally:
            await _forget(bus, info)


async def _left(bus: Bus, name: str, expected: int) -> int:
    """How many messages are still to come, those on their way included."""
    info = await bus.js.consumer_info(EVENTS_STREAM, name)
    sent = info.delivered.consumer_seq if info.delivered else 0
    return (info.num_pending or 0) + sent + 1 - expected


async def _some(pull: Pull) -> list[Msg]:
    try:
        return await asyncio.wait_for(pull.messages(AT_A_TIME), timeout=LOOK_EVERY)
    except TimeoutError:
        return []


async def _forget(bus: Bus, info: ConsumerInfo) -> None:
    if bus.is_connected:
        with contextlib.suppress(NatsError, APIError, TimeoutError):
            await bus.js.delete_consumer(EVENTS_STREAM, info.name)

"""Measure what waits in JetStream: the lag of each durable consumer, and the dead letters."""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from typing import Final

from nats.errors import Error as NatsError
from nats.js.api import ConsumerInfo
from nats.js.errors import APIError

from mediabus.runtime import metrics
from mediabus.runtime.error_text import error_text
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.client import NotAllowed
from mediabus.schemas.subjects import (
    DEAD_LETTERS_STREAM,
    DEAD_LETTERS_SUBJECTS,
    EVENTS_STREAM,
    REPLAY_STREAM,
)

log: Final = logging.getLogger("mediabus.metrics")

MEASURE_EVERY: Final = 10.0
"""Seconds between two measurements."""

PAGE: Final = 256
"""Consumers in one reply of nats-server."""

MAX_CONSUMERS: Final = 1000
"""Consumers with series of their own. Any program may create more."""

OTHERS: Final = "other"
"""The label of the sum of all further consumers."""

Lag = dict[tuple[str, ...], int]
"""Messages by stream and consumer."""


async def measure_backlog(bus: Bus) -> None:
    """Expose the lag of consumers and the number of dead letters, until cancelled.

    What NATS does not answer, or does not let this key ask, is absent.
    """
    logged = False
    try:
        while True:
            try:
                await _measure(bus)
            except NotAllowed as error:
                metrics.CONSUMER_LAG.clear()
                if not logged:
                    advice = "run `mediabus secure` again: it grants this to service.nk"
                    fields = {"error": error_text(error), "advice": advice}
                    log.warning("consumers not measured", extra=fields)
                logged = True
            except (NatsError, APIError, TimeoutError):
                _forget()
            await asyncio.sleep(MEASURE_EVERY)
    finally:
        _forget()


async def _measure(bus: Bus) -> None:
    letters = await _dead_letters(bus)
    try:
        lag = {**await _lag(bus, EVENTS_STREAM), **await _lag(bus, REPLAY_STREAM)}
    except NotAllowed:
        _show_dead_letters(letters)
        raise
    metrics.CONSUMER_LAG.replace(lag)
    _show_dead_letters({**{consumer: 0 for _, consumer in lag}, **letters})


def _show_dead_letters(letters: Mapping[str, int]) -> None:
    metrics.DEAD_LETTERS.replace({(name,): count for name, count in letters.items()})


def _forget() -> None:
    metrics.DEAD_LETTERS.clear()
    metrics.CONSUMER_LAG.clear()


async def _lag(bus: Bus, stream: str) -> Lag:
    lag: Counter[tuple[str, ...]] = Counter()
    offset = 0
    while page := await bus.js.consumers_info(stream, offset):
        for info in page:
            if info.config.durable_name:
                named = info.config.durable_name if len(lag) < MAX_CONSUMERS else OTHERS
                lag[stream, named] += _waiting(info)
        offset += len(page)
        if len(page) < PAGE:
            break
    return dict(lag)


def _waiting(info: ConsumerInfo) -> int:
    return (info.num_pending or 0) + (info.num_ack_pending or 0)


async def _dead_letters(bus: Bus) -> dict[str, int]:
    """Count the dead letters by the consumer in their subjects."""
    info = await bus.js.stream_info(DEAD_LETTERS_STREAM, subjects_filter=DEAD_LETTERS_SUBJECTS)
    counts: Counter[str] = Counter()
    for subject, count in (info.state.subjects or {}).items():
        consumer = subject.split(".")[1]
        counts[consumer if len(counts) < MAX_CONSUMERS else OTHERS] += count
    return dict(counts)

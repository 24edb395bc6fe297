"""The metrics of one target, which every process of the notifier exposes alike."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

import msgspec
from nats.errors import Error as NatsError
from nats.js.errors import APIError

from mediabus.consumers.notifier.state import TargetState
from mediabus.consumers.notifier.store import StateStore
from mediabus.consumers.notifier.targets.port import Failed
from mediabus.runtime import metrics
from mediabus.runtime.nats.bus import Bus

READ_EVERY: Final = 10.0
"""Seconds between two reads of the state, which another process may have written."""

OUTCOMES: Final = ("delivered", "retried", "failed")


def count(target: str, answer: str | Failed, after: TargetState) -> None:
    """Count an attempt by what followed from it."""
    failed = "retried" if after.attempts else "failed"
    outcome = failed if isinstance(answer, Failed) else "delivered"
    metrics.NOTIFICATIONS.labels(target, outcome).inc()


def show(target: str, state: TargetState) -> None:
    """Expose whether a target fails, and what waits for its next attempt."""
    metrics.NOTIFY_FAILING.set(float(state.is_failing), target)
    metrics.NOTIFY_RETRYING.set(len(state.sending) if state.attempts else 0, target)


@contextlib.asynccontextmanager
async def measured(bus: Bus, target: str) -> AsyncIterator[None]:
    """Expose the metrics of a target while open, from 0, so that the first failure is an increase.

    Several processes may deliver to a target in turn, so its state is read from NATS.
    """
    for outcome in OUTCOMES:
        metrics.NOTIFICATIONS.labels(target, outcome)
    watching = asyncio.create_task(_watch(bus, target), name=f"measure {target}")
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait([watching])
        metrics.forget("target", target)


async def _watch(bus: Bus, target: str) -> None:
    while True:
        try:
            show(target, await StateStore(bus, target).load())
        except (NatsError, APIError, TimeoutError, msgspec.MsgspecError):
            for figure in (metrics.NOTIFY_FAILING, metrics.NOTIFY_RETRYING):
                figure.remove(target)
        await asyncio.sleep(READ_EVERY)

"""Handle events concurrently, those of one resource in their order."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig

from mediabus.consumers.daemon import Delivery, delivery_of, retry_or_dead_letter, verdict_of
from mediabus.consumers.drain import Drain
from mediabus.consumers.verdict import DeadLetter, RetryPolicy, Verdict
from mediabus.runtime import metrics
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.pull import place_of, pulling
from mediabus.schemas.codec import InvalidEvent

IN_HAND: Final = 8
"""Events taken for each that is handled, so that a resource whose events wait delays no other."""

HandleOne = Callable[[Delivery], Awaitable[Exception | None]]
"""Handles one event, and returns its error."""


async def run_lanes(
    bus: Bus,
    config: ConsumerConfig,
    handle: HandleOne,
    *,
    slots: asyncio.Semaphore,
    prefetch: int,
    stream: str,
    policy: RetryPolicy | None,
    drain: Drain,
) -> None:
    """Pull and handle events until cancelled or drained, as many at a time as ``slots`` allow.

    An event whose handler fails is retried here, not by JetStream, because the later events of its
    resource wait for it.
    """
    lanes = _Lanes(
        bus, config.durable_name or "", handle=handle, slots=slots, policy=policy, drain=drain
    )
    in_hand = asyncio.Semaphore(prefetch * IN_HAND)
    async with (
        pulling(bus, stream=stream, consumer=config, batch=prefetch) as pull,
        asyncio.TaskGroup() as tasks,
    ):
        source = drain.of(pull)
        while True:
            await in_hand.acquire()
            messages = await source.messages(1)
            if not messages:
                return
            lanes.start(tasks, messages[0]).add_done_callback(lambda _: in_hand.release())


class _Stopped(Exception):
    """The consumer stops while an event waits for its next try. It stays unacknowledged."""


class _Lanes:
    """A lane for each resource: an event starts when the one before it in its lane is done."""

    def __init__(
        self,
        bus: Bus,
        name: str,
        *,
        handle: HandleOne,
        slots: asyncio.Semaphore,
        policy: RetryPolicy | None,
        drain: Drain,
    ) -> None:
        self._bus = bus
        self._name = name
        self._handle = handle
        self._slots = slots
        self._policy = policy
        self._drain = drain
        self._ends: dict[str, asyncio.Event] = {}

    def start(self, tasks: asyncio.TaskGroup, message: Msg) -> "asyncio.Task[None]":
        """Put a message at the end of its lane."""
        try:
            delivery = delivery_of(self._bus, message)
        except InvalidEvent as error:
            return tasks.create_task(self._finish(message, DeadLetter("invalid", str(error))))
        envelope = delivery.envelope
        lane = str(envelope.resource or envelope.id)
        before, end = self._ends.get(lane), asyncio.Event()
        self._ends[lane] = end
        return tasks.create_task(self._follow(lane, before, end, message, delivery))

    async def _follow(
        self,
        lane: str,
        before: asyncio.Event | None,
        end: asyncio.Event,
        message: Msg,
        delivery: Delivery,
    ) -> None:
        try:
            if before is not None:
                await before.wait()
            if self._drain.is_stopping:
                return  # JetStream delivers it again, after the one before it
            with contextlib.suppress(_Stopped):
                await self._finish(message, await self._handled(message, delivery))
        finally:
            end.set()
            if self._ends.get(lane) is end:
                del self._ends[lane]

    async def _handled(self, message: Msg, delivery: Delivery) -> Verdict | None:
        """Handle an event until it succeeds or is dead-lettered.

        Raises:
            _Stopped: the consumer stops before that.
        """
        deliveries = place_of(message).deliveries
        while True:
            async with self._slots:
                error = await self._handle(delivery)
            if error is None:
                return None
            verdict = verdict_of(error, deliveries, self._policy)
            if isinstance(verdict, DeadLetter):
                return verdict
            metrics.CONSUMED.labels(self._name, "retry").inc()
            deliveries += 1
            if not await self._drain.pause(verdict.delay):
                raise _Stopped

    async def _finish(self, message: Msg, verdict: Verdict | None) -> None:
        if verdict is not None:
            await retry_or_dead_letter(self._bus, self._name, [(message, verdict)])
            return
        await self._bus.nc.acknowledge([message])
        metrics.CONSUMED.labels(self._name, "done").inc()

"""`consume()`: run a consumer of your own."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, overload

from nats.js.api import ConsumerConfig

from mediabus.consumers.daemon import Delivery, delivery_of, durable, run
from mediabus.consumers.drain import Drain, stopping_on_sigterm
from mediabus.consumers.lanes import run_lanes
from mediabus.consumers.verdict import RetryLater, RetryPolicy
from mediabus.runtime.nats.bus import Bus, connect
from mediabus.runtime.nats.refusals import ConsumerRefused
from mediabus.runtime.settings import NatsSettings
from mediabus.runtime.settings_file import load, resolved
from mediabus.schemas import trace
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.subjects import (
    EVENTS_STREAM,
    EVENTS_SUBJECTS,
    PERSISTER,
    REPLAY_STREAM,
    is_event_filter,
    replayed,
)

Handle = Callable[[Envelope], Awaitable[None]]
"""Handles one event. ``consumers/verdict.py`` decides what happens if it raises."""

HandleMany = Callable[[Sequence[Envelope]], Awaitable[None]]
"""Handles the events of a batch."""

OrderBy = Literal["resource", "stream"]


@overload
async def consume(
    name: str,
    handle: Handle,
    *,
    subjects: str = ...,
    from_start: bool = ...,
    concurrency: int = ...,
    order_by: OrderBy | None = ...,
    retry: RetryPolicy | None = ...,
    settings: NatsSettings | None = ...,
) -> None: ...


@overload
async def consume(
    name: str,
    handle: HandleMany,
    *,
    subjects: str = ...,
    from_start: bool = ...,
    concurrency: int = ...,
    batch: int,
    retry: RetryPolicy | None = ...,
    settings: NatsSettings | None = ...,
) -> None: ...


async def consume(
    name: str,
    handle: Handle | HandleMany,
    *,
    subjects: str = EVENTS_SUBJECTS,
    from_start: bool = False,
    concurrency: int = 1,
    batch: int | None = None,
    order_by: OrderBy | None = None,
    retry: RetryPolicy | None = None,
    settings: NatsSettings | None = None,
) -> None:
    """Run a consumer of your own, until cancelled or until SIGTERM.

    ``handle`` is called with one event at a time. When it returns, the event is acknowledged. When
    it raises, the event is redelivered later, and after ten deliveries it goes to the dead letters;
    see ``Rejected`` and ``RetryLater``. Processes with a consumer of the same ``name`` share its
    events. It resumes where it left off.

    ``subjects`` is a NATS subject filter. ``from_start`` also delivers what the stream holds
    already, when the consumer runs for the first time; for older events, run `mediabus replay`.

    ``concurrency`` is how many handlers run at a time. With ``order_by="resource"`` the events of
    one resource are still handled in their order, also over retries; this holds within one
    process. ``order_by="stream"`` handles one event at a time over all processes: an event waits
    until the one before it is acknowledged or dead-lettered, however often that is retried.

    With ``batch``, ``handle`` gets up to so many events at once. If it raises, it gets them again
    one by one, so that one event does not fail the others.

    ``retry`` sets the delays of redeliveries and their number. SIGTERM drains: the consumer takes
    no more events, waits up to 8 s for the handlers that run, and returns. A program with a handler
    for SIGTERM of its own cancels the consumer instead.

    The handler must not block the event loop: a message that shows no progress for 10 s is
    redelivered. Run blocking work in ``asyncio.to_thread``; it may take as long as it needs.

    Raises:
        ConsumerRefused: Such a consumer can never get an event.
        SettingsError: The settings cannot be used.
        ValueError: The options contradict each other.

    >>> async def announce(envelope: mediabus.Envelope) -> None:
    ...     match envelope.event:
    ...         case mediabus.events.DownloadCompleted(title=title):
    ...             print(f"{title} completed")
    >>> await mediabus.consume(
    ...     "announcer",
    ...     announce,
    ...     subjects="events.downloads.>",
    ...     concurrency=8,
    ...     order_by="resource",
    ...     retry=mediabus.RetryPolicy(delays=(1, 10, 60), limit=20),
    ... )
    """
    _check_asked(name, subjects)
    _check_options(concurrency, batch, order_by)
    drain = Drain()
    options = _Options(
        handle,
        concurrency=concurrency,
        batch=batch,
        order_by=order_by,
        policy=retry,
        drain=drain,
    )
    live = durable(name, subjects=subjects, from_start=from_start)
    old = durable(name, subjects=replayed(name, subjects))
    if order_by == "stream":
        live, old = live.evolve(max_ack_pending=1), old.evolve(max_ack_pending=1)
    try:
        async with (
            connect(settings or resolved(load(None)).nats, name=f"mediabus {name}") as bus,
            asyncio.TaskGroup() as tasks,
        ):
            with stopping_on_sigterm(drain):
                streams = ((live, EVENTS_STREAM), (old, REPLAY_STREAM))
                running = [
                    tasks.create_task(options.run(bus, config, stream))
                    for config, stream in streams
                ]
                await asyncio.wait(running)
    except BaseExceptionGroup as group:
        raise _refusal_in(group) or group from None


class _Options:
    """How one consumer handles its events. Both of its streams share the concurrency."""

    def __init__(
        self,
        handle: Handle | HandleMany,
        *,
        concurrency: int,
        batch: int | None,
        order_by: OrderBy | None,
        policy: RetryPolicy | None,
        drain: Drain,
    ) -> None:
        self._handle: Callable[..., Awaitable[None]] = handle
        self._concurrency = concurrency
        self._batch = batch
        self._order_by = order_by
        self._policy = policy
        self._drain = drain
        self._slots = asyncio.Semaphore(concurrency)

    async def run(self, bus: Bus, config: ConsumerConfig, stream: str) -> None:
        """Handle the events of one stream until cancelled or drained."""
        if self._order_by == "resource":
            await run_lanes(
                bus,
                config,
                self._one,
                slots=self._slots,
                prefetch=self._concurrency,
                stream=stream,
                policy=self._policy,
                drain=self._drain,
            )
            return
        # Without options, fetch one message at a time: a message that waits here for a slow
        # handler counts as in progress, so no other process gets it.
        await run(
            bus,
            config,
            self._many if self._batch else self._each,
            decode=delivery_of,
            batch=self._batch or 1,
            workers=self._concurrency,
            stream=stream,
            policy=self._policy,
            drain=self._drain,
        )

    async def _one(self, delivery: Delivery) -> Exception | None:
        with trace.carrying(delivery.envelope.extensions):  # what it causes belongs to its trace
            return await _outcome(self._handle, delivery.envelope)

    async def _each(self, batch: Sequence[Delivery]) -> list[Exception | None]:
        async with self._slots:
            return [await self._one(delivery) for delivery in batch]

    async def _many(self, batch: Sequence[Delivery]) -> list[Exception | None]:
        """Handle a batch; if that fails, each of its events alone."""
        envelopes = [delivery.envelope for delivery in batch]
        async with self._slots:
            error = await _outcome(self._handle, envelopes)
            if error is None or len(batch) == 1 or isinstance(error, RetryLater):
                return [error] * len(batch)
            return [await _outcome(self._handle, [envelope]) for envelope in envelopes]


def _check_options(concurrency: int, batch: int | None, order_by: OrderBy | None) -> None:
    """Raise ValueError for options that contradict each other."""
    if concurrency < 1 or (batch is not None and batch < 1):
        raise ValueError("consume(): concurrency and batch must be at least 1")
    if batch is not None and order_by is not None:
        raise ValueError("consume(): batch cannot be combined with order_by")
    if order_by == "stream" and concurrency > 1:
        raise ValueError('consume(): order_by="stream" handles one event at a time')


def _check_asked(name: str, subjects: str) -> None:
    """Raise ConsumerRefused for a consumer that NATS accepts but never delivers to."""
    if name == PERSISTER:
        raise ConsumerRefused(
            f"the name {name!r} belongs to the consumer that stores events in PostgreSQL: "
            "choose another name"
        )
    if not is_event_filter(subjects):
        raise ConsumerRefused(
            f"{subjects!r} matches no event: subjects are events.<category>.<resource>."
            "<action>.<id>, such as events.media.> or events.*.download.failed.*"
        )


def _refusal_in(group: BaseExceptionGroup) -> ConsumerRefused | None:
    """Find a ConsumerRefused in nested exception groups."""
    for error in group.exceptions:
        if isinstance(error, ConsumerRefused):
            return error
        if isinstance(error, BaseExceptionGroup) and (found := _refusal_in(error)):
            return found
    return None


async def _outcome(
    handle: Callable[..., Awaitable[None]], events: Envelope | Sequence[Envelope]
) -> Exception | None:
    try:
        await handle(events)
    except Exception as error:  # noqa: BLE001 - verdict_on decides about any exception
        return error
    return None

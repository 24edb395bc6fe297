"""Deliver the events of one target: one message at a time, in their order."""

import asyncio
import datetime
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, assert_never

import msgspec
from nats.errors import Error as NatsError
from nats.js.errors import APIError

from mediabus.consumers.daemon import Delivery, LeftAlone, delivery_of, durable, run
from mediabus.consumers.notifier import figures, reports
from mediabus.consumers.notifier.message import hidden, message_of
from mediabus.consumers.notifier.outcome import outcome_of
from mediabus.consumers.notifier.patterns import filters
from mediabus.consumers.notifier.schedule import Drop, Held, Send, Wait
from mediabus.consumers.notifier.settings import NotifierConfig, Target
from mediabus.consumers.notifier.state import Retries, TargetState
from mediabus.consumers.notifier.store import StateStore, Superseded
from mediabus.consumers.notifier.targets.port import Failed, Sender
from mediabus.consumers.notifier.window import Window, held_at
from mediabus.consumers.verdict import Rejected, RetryLater, RetryPolicy
from mediabus.runtime import tracing
from mediabus.runtime.nats.bus import Bus

log: Final = logging.getLogger("mediabus.notifier")

LOOK_EVERY: Final = 1.0
"""Seconds between two looks at the stream while an event waits and later ones may matter."""

FINISH_WITHIN: Final = 6.0
"""Seconds that a delivery has to finish when the process ends."""

POLICY: Final = RetryPolicy(delays=(1, 5, 10), limit=None)
"""For faults of the notifier itself, such as NATS being away. Targets have their own delays."""

CLOCK_EVERY: Final = 30.0
"""Seconds between two looks at the clock while a retry waits: the clock may be set."""

Clock = Callable[[], datetime.datetime]


def utc_now() -> datetime.datetime:
    """Return the time."""
    return datetime.datetime.now(datetime.UTC)


class Worker:
    """One target. The consumer gives its head to one process at a time, and with it the target."""

    def __init__(
        self, bus: Bus, target: Target, sender: Sender, config: NotifierConfig, clock: Clock
    ) -> None:
        self._bus = bus
        self._target = target
        self._sender = sender
        self._clock = clock
        self._retries = Retries(delays=config.delays, give_up_after=config.give_up_after)
        self._filters = filters(target.rule.patterns)
        self._window = Window(bus, target.rule, self._filters, clock)
        self._store = StateStore(bus, target.name)
        self._state = TargetState()

    async def run(self) -> None:
        """Deliver events until cancelled."""
        config = durable(self._target.durable, from_start=False).evolve(
            filter_subject=None, filter_subjects=self._filters, max_ack_pending=1
        )
        if len(self._filters) == 1:
            config = config.evolve(filter_subject=self._filters[0], filter_subjects=None)
        async with figures.measured(self._bus, self._target.name):
            await run(self._bus, config, self._handle, decode=delivery_of, batch=1, policy=POLICY)

    async def _handle(self, batch: Sequence[Delivery]) -> list[Exception | None]:
        return [await self._head(delivery) for delivery in batch]

    async def _head(self, delivery: Delivery) -> Exception | None:
        """Return once the head needs no message any more: delivered, dropped, or refused."""
        if not self._target.rule.matches(delivery.envelope):
            return None
        try:
            at = min(delivery.stored_at, self._clock())
            head = held_at(delivery.stream_seq, delivery.envelope, at)
            await self._begin(head)
            if delivery.is_republished and await self._was_delivered(head):
                return None
            while head.id not in self._state.done:
                await self._step()
        except Superseded:
            log.warning("another process has the target", extra={"target": self._target.name})
            return LeftAlone()
        except (NatsError, APIError, TimeoutError) as error:
            return RetryLater(f"the notifier waits for NATS: {error}")
        reason = self._state.done[head.id].reason
        return Rejected(reason) if reason else None

    async def _begin(self, head: Held) -> None:
        """Read the state as the last process left it, and publish what that one did not."""
        state = await self._store.load()
        if state.reports and state != self._state:
            missing = [
                one for one in state.reports if not await reports.is_published(self._bus, one)
            ]
            await self._publish(tuple(missing))
        self._state = state.behind(head.seq)
        self._window.begin(head)

    async def _was_delivered(self, head: Held) -> bool:
        return await reports.was_delivered(self._bus, self._target.name, head.id)

    async def _step(self) -> None:
        schedule = self._target.schedule
        if schedule.looks_ahead:
            await self._window.read()
        now = self._clock()
        pressure = self._retries.pressure(self._state, now)
        match schedule.plan(self._window.waiting(self._state.done), pressure, now):
            case Wait(until):
                await self._pause((until - now).total_seconds())
            case Drop(events):
                await self._save(self._state.finished(events))
            case Send(events):
                await self._finish(self._send(events))
            case plan:
                assert_never(plan)

    async def _pause(self, seconds: float) -> None:
        most = LOOK_EVERY if self._target.schedule.looks_ahead else CLOCK_EVERY
        await asyncio.sleep(min(max(seconds, 0.0), most))

    async def _finish(self, sending: Coroutine[Any, Any, None]) -> None:
        """Send a message. When the process ends meanwhile, wait for the answer and keep it."""
        task = asyncio.create_task(sending, name=f"notify {self._target.name}")
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task], timeout=FINISH_WITHIN)
            task.cancel()
            raise

    async def _send(self, events: tuple[Held, ...]) -> None:
        """Try a message once, and store what came of it. Then publish the reports."""
        if len(events) > 1 and not self._state.sending:
            await self._save(self._state.sends(events))
        before, cause = self._state, events[0].envelope
        answer = await self._traced_answer(events)
        now, name = self._clock(), self._target.name
        after, told = outcome_of(
            answer, before, events, retries=self._retries, target=self._target, now=now
        )
        made = tuple(reports.report(name, event, cause) for event in told)
        await self._save(msgspec.structs.replace(after, reports=made))
        await self._publish(made)
        figures.count(name, answer, after)

    async def _traced_answer(self, events: tuple[Held, ...]) -> str | Failed:
        envelopes = [held.envelope for held in events]
        with tracing.notification(self._target.name, self._target.durable, envelopes) as span:
            answer = await self._answer(events)
            if isinstance(answer, Failed):
                span.fail("final" if answer.is_final else "retried", answer.reason)
            return answer

    async def _answer(self, events: tuple[Held, ...]) -> str | Failed:
        message = message_of(self._target, [held.envelope for held in events], self._clock())
        try:
            return await self._sender.send(message)
        except Failed as error:
            failed = hidden(self._target, error)
        except Exception as error:
            log.exception("target failed", extra={"target": self._target.name})
            failed = hidden(self._target, Failed(f"{type(error).__name__}: {error}"))
        log.warning(
            "message not delivered", extra={"target": self._target.name, "reason": failed.reason}
        )
        return failed

    async def _save(self, state: TargetState) -> None:
        await self._store.save(state)
        self._state = state
        figures.show(self._target.name, state)

    async def _publish(self, made: tuple[msgspec.Raw, ...]) -> None:
        while not await reports.publish(self._bus, made):  # noqa: ASYNC110 - waits for a server
            await asyncio.sleep(LOOK_EVERY)

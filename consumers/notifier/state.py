"""What the notifier remembers of a target, and how a delivery changes it. Pure.

The JetStream consumer of the target keeps its position: the first event without a message, its
head. Everything here is about that head and the events behind it.
"""

import dataclasses
import datetime
from collections.abc import Sequence
from typing import Final, Self

import msgspec

from mediabus.consumers.notifier.schedule import Held, Pressure

OPEN_AFTER: Final = 3
"""Failures in succession after which a target counts as failing, and every event waits for it."""

MAX_RETRY_AFTER: Final = 86_400.0
"""Seconds that a target may ask to wait at most."""

JITTER: Final = 0.1
"""The part of a delay that is added at random, at most."""

Moment = datetime.datetime


class Done(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event that needs no message any more. With a ``reason`` it becomes a dead letter."""

    seq: int
    reason: str = ""


class TargetState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The memory of one target.

    ``done`` are events behind the head that need no message any more, by id. ``sending`` are the
    events of a message that was tried, by id, and ``attempts`` how often. ``failures`` counts the
    failures in succession since ``failing_since``, ``reason`` is the last one. ``sent`` are the
    times of the last messages. ``reports`` are events about deliveries that may not be in the
    stream yet.
    """

    done: dict[str, Done] = {}
    sending: tuple[str, ...] = ()
    attempts: int = 0
    failures: int = 0
    failing_since: Moment | None = None
    next_at: Moment | None = None
    reason: str = ""
    sent: tuple[Moment, ...] = ()
    reports: tuple[msgspec.Raw, ...] = ()

    @property
    def is_failing(self) -> bool:
        """Whether the target is known to fail."""
        return self.failures >= OPEN_AFTER

    def behind(self, head: int) -> Self:
        """Forget what is about events before ``head``."""
        done = {event: one for event, one in self.done.items() if one.seq >= head}
        return msgspec.structs.replace(self, done=done, reports=())

    def sends(self, events: Sequence[Held]) -> Self:
        """A message about these events is tried: it keeps them, and so its id."""
        return msgspec.structs.replace(self, sending=tuple(held.id for held in events))

    def finished(self, events: Sequence[Held], reason: str = "") -> Self:
        """Events need no message any more."""
        done = {held.id: Done(held.seq, reason) for held in events}
        return msgspec.structs.replace(self, done=self.done | done, sending=(), attempts=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retries:
    """How a target is retried. Times in seconds."""

    delays: Sequence[float]
    give_up_after: float

    def pressure(self, state: TargetState, now: Moment) -> Pressure:
        """Return what delays the next message.

        A retry that is further away than any delay was written by a clock that was ahead: it is
        due, and so are messages of the future no messages.
        """
        longest = max(*self.delays, MAX_RETRY_AFTER) * (1 + JITTER)
        next_at = state.next_at
        if next_at is not None and (next_at - now).total_seconds() > longest:
            next_at = None
        sent = tuple(at for at in state.sent if at <= now)
        return Pressure(next_at=next_at, sent=sent, sending=frozenset(state.sending))

    def is_exhausted(self, state: TargetState, happened: Moment, now: Moment) -> bool:
        """Return whether an event that fails now was tried for long enough.

        The time counts from the event, or from the first failure of the target if that is later: a
        notifier that was away tries each event for as long as one that was not.
        """
        since = max(happened, state.failing_since or now)
        return (now - since).total_seconds() >= self.give_up_after

    def delivered(
        self, state: TargetState, events: Sequence[Held], now: Moment, *, keep: int
    ) -> TargetState:
        """Return the state after the target accepted a message.

        ``keep`` is how many times of messages the rate limit needs.
        """
        return msgspec.structs.replace(
            state.finished(events),
            failures=0,
            failing_since=None,
            reason="",
            next_at=None,
            sent=(*state.sent, now)[-keep:] if keep else (),
        )

    def refused(
        self, state: TargetState, events: Sequence[Held], reason: str, now: Moment
    ) -> TargetState:
        """Return the state after a target refused a message for good."""
        failures = state.failures + 1
        return msgspec.structs.replace(
            state.finished(events, reason),
            failures=failures,
            reason=reason,
            failing_since=state.failing_since or now,
            next_at=now + self._delay(failures, 0.0) if failures >= OPEN_AFTER else None,
        )

    def given_up(
        self, state: TargetState, events: Sequence[Held], reason: str, now: Moment
    ) -> TargetState:
        """Return the state after a message was tried for long enough. The next one is tried now."""
        return msgspec.structs.replace(self.refused(state, events, reason, now), next_at=None)

    def failed(
        self,
        state: TargetState,
        events: Sequence[Held],
        now: Moment,
        *,
        reason: str,
        retry_after: float | None,
        spread: float,
    ) -> TargetState:
        """Return the state after a message failed that will be tried again."""
        failures = state.failures + 1
        wait = self._delay(failures, spread)
        if retry_after is not None:
            asked = datetime.timedelta(seconds=min(retry_after, MAX_RETRY_AFTER))
            wait = max(wait, asked)
        return msgspec.structs.replace(
            state,
            sending=tuple(held.id for held in events),
            attempts=state.attempts + 1,
            failures=failures,
            reason=reason,
            failing_since=state.failing_since or now,
            next_at=now + wait,
        )

    def _delay(self, failures: int, spread: float) -> datetime.timedelta:
        delay = self.delays[min(failures, len(self.delays)) - 1]
        return datetime.timedelta(seconds=delay * (1 + JITTER * spread))

"""Decide which of the waiting events go into the next message, and when. Pure: time is an argument.

Nothing here drops an event, except for a pair within ``hold``: an outage and its end.
"""

import dataclasses
import datetime
from collections.abc import Callable, Collection, Sequence
from typing import Final

from mediabus.consumers.notifier import durations
from mediabus.consumers.notifier.groups import Group, group_of
from mediabus.consumers.notifier.pairs import is_opener, pairs_in
from mediabus.consumers.notifier.rules import is_at_least
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import Severity

GROUP_WAIT: Final = datetime.timedelta(seconds=30)
"""How long a group collects events if the target has no ``digest``."""

MAX_IN_MESSAGE: Final = 200
"""Events in one message. The rest goes into the next one."""


MAX_BYTES: Final = 500_000
"""Bytes of the data of the events in one message, the first one aside."""


@dataclasses.dataclass(frozen=True)
class Held:
    """An event that waits for its message. ``at`` is when it happened, or was stored if earlier."""

    seq: int
    envelope: Envelope
    at: datetime.datetime

    @property
    def id(self) -> str:
        """The id of the event."""
        return str(self.envelope.id)


@dataclasses.dataclass(frozen=True)
class Wait:
    """Nothing is due before this time."""

    until: datetime.datetime


@dataclasses.dataclass(frozen=True)
class Drop:
    """These events are pairs that end within ``hold``: they need no message."""

    events: tuple[Held, ...]


@dataclasses.dataclass(frozen=True)
class Send:
    """One message about these events is due."""

    events: tuple[Held, ...]


Plan = Wait | Drop | Send


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pressure:
    """What delays a target: a retry that waits, and the messages of the last period of ``rate``.

    ``sending`` are the ids of the events of a message that was tried.
    """

    next_at: datetime.datetime | None = None
    sent: Sequence[datetime.datetime] = ()
    sending: Collection[str] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """When a target gets its messages."""

    digest: datetime.timedelta | datetime.time | None = None
    group: Group | None = None
    quiet: durations.Hours | None = None
    quiet_until: datetime.datetime | None = None
    exempt: Severity | None = None
    hold: datetime.timedelta | None = None
    rate: durations.Rate | None = None

    @property
    def looks_ahead(self) -> bool:
        """Whether a message may depend on later events."""
        options = (self.digest, self.group, self.quiet, self.quiet_until, self.hold, self.rate)
        return any(option is not None for option in options)

    def plan(self, waiting: Sequence[Held], pressure: Pressure, now: datetime.datetime) -> Plan:
        """Decide what to do. ``waiting`` has at least one event, in the order of the stream."""
        if pressure.next_at is not None and now < pressure.next_at:
            return Wait(pressure.next_at)
        tried = tuple(held for held in waiting if held.id in pressure.sending)
        if tried:  # a message keeps its events, and so its id
            return Send(tried)
        if self.hold is not None and (seqs := pairs_in(waiting, self.hold)):
            return Drop(tuple(held for held in waiting if held.seq in seqs))
        free_at, budget = self._budget(pressure.sent, now)
        if not budget:
            return Wait(free_at)
        ready = self._ready_times(waiting)
        due_at = {held.seq: self._after_quiet(held, ready[held.seq], now) for held in waiting}
        due = [held for held in waiting if due_at[held.seq] <= now]
        if not due:
            return Wait(min(due_at.values()))
        members = due if budget == 1 else self._together(due, ready)
        return Send(_fitting(members))

    def _ready_times(self, waiting: Sequence[Held]) -> dict[int, datetime.datetime]:
        """Return when each event is ready, before quiet hours: those of a group at once."""
        ready = {held.seq: self._hold_end(held) for held in waiting}
        if self.digest is None and self.group is None:
            return ready
        first: dict[str, datetime.datetime] = {}
        for held in waiting:
            group = group_of(held.envelope, self.group)
            first.setdefault(group, self._digest_end(ready[held.seq]))
        return {held.seq: first[group_of(held.envelope, self.group)] for held in waiting}

    def _hold_end(self, held: Held) -> datetime.datetime:
        return held.at + self.hold if self.hold and is_opener(held.envelope) else held.at

    def _digest_end(self, moment: datetime.datetime) -> datetime.datetime:
        match self.digest:
            case datetime.time() as clock:
                return durations.next_time(moment, clock)
            case datetime.timedelta() as length:
                return moment + length
            case _:
                return moment + GROUP_WAIT

    def _after_quiet(
        self, held: Held, ready: datetime.datetime, now: datetime.datetime
    ) -> datetime.datetime:
        """Return when a ready event may be sent: now at the earliest, and not in quiet hours."""
        return self._quiet_end(held, max(ready, now)) or ready

    def _quiet_end(self, held: Held, moment: datetime.datetime) -> datetime.datetime | None:
        if self.exempt is not None and is_at_least(held.envelope.severity, self.exempt):
            return None
        if self.quiet_until is not None and moment < self.quiet_until:
            return self.quiet_until
        return self.quiet.end_after(moment) if self.quiet else None

    def _together(self, due: Sequence[Held], ready: dict[int, datetime.datetime]) -> Sequence[Held]:
        """Return the events that share a message with the first one."""
        first = due[0]
        if self._quiet_end(first, ready[first.seq]) is not None:
            return _those(due, lambda held: self._quiet_end(held, ready[held.seq]) is not None)
        if self.digest is None and self.group is None:
            return [first]
        group = group_of(first.envelope, self.group)
        return _those(due, lambda held: group_of(held.envelope, self.group) == group)

    def _budget(
        self, sent: Sequence[datetime.datetime], now: datetime.datetime
    ) -> tuple[datetime.datetime, int]:
        """Return how many messages ``rate`` still allows, and when it allows the next one."""
        if self.rate is None:
            return now, MAX_IN_MESSAGE
        recent = sorted(at for at in sent if at > now - self.rate.per)
        free_at = (
            recent[-self.rate.count] + self.rate.per if len(recent) >= self.rate.count else now
        )
        return free_at, max(self.rate.count - len(recent), 0)


def _fitting(members: Sequence[Held]) -> tuple[Held, ...]:
    """Return the first events, as many as fit into a message: at least one."""
    size, fitting = 0, list(members[:1])
    for held in members[1:MAX_IN_MESSAGE]:
        size += len(memoryview(held.envelope.data))
        if size > MAX_BYTES:
            break
        fitting.append(held)
    return tuple(fitting)


def _those(due: Sequence[Held], belongs: Callable[[Held], bool]) -> list[Held]:
    return [held for held in due if belongs(held)]

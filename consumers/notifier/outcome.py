"""What an answer of a target, or a failure, changes: its state, and the events about it."""

import datetime
import random
from collections.abc import Sequence

from mediabus.consumers.notifier.schedule import Held
from mediabus.consumers.notifier.settings import Target
from mediabus.consumers.notifier.state import Retries, TargetState
from mediabus.consumers.notifier.targets.port import Failed, event_id_of
from mediabus.schemas.events import (
    Event,
    NotificationDelivered,
    NotificationFailed,
    NotificationTargetFailing,
    NotificationTargetRecovered,
)

Outcome = tuple[TargetState, list[Event]]
"""The new state, and the events to publish."""


def outcome_of(
    answer: str | Failed,
    state: TargetState,
    events: Sequence[Held],
    *,
    retries: Retries,
    target: Target,
    now: datetime.datetime,
) -> Outcome:
    """Return what follows from an attempt to send a message about ``events``."""
    if isinstance(answer, Failed):
        return _after_failure(answer, state, events, retries=retries, target=target, now=now)
    keep = target.schedule.rate.count if target.schedule.rate else 0
    delivered = NotificationDelivered(
        target=target.name,
        event_ids=[event_id_of(held.envelope) for held in events],
        attempts=state.attempts + 1,
        answer=answer,
    )
    after = retries.delivered(state, events, now, keep=keep)
    if not state.is_failing:
        return after, [delivered]
    away = (now - (state.failing_since or now)).total_seconds()
    return after, [delivered, NotificationTargetRecovered(target=target.name, away_seconds=away)]


def _after_failure(
    failed: Failed,
    state: TargetState,
    events: Sequence[Held],
    *,
    retries: Retries,
    target: Target,
    now: datetime.datetime,
) -> Outcome:
    after, wait = _failed_state(failed, state, events, retries, now)
    told: list[Event] = [
        NotificationFailed(
            target=target.name,
            event_ids=[event_id_of(held.envelope) for held in events],
            attempts=state.attempts + 1,
            error_message=failed.reason,
            retry_in_seconds=wait,
        )
    ]
    if after.is_failing and not state.is_failing:
        told.append(
            NotificationTargetFailing(
                target=target.name, failures=after.failures, error_message=failed.reason
            )
        )
    return after, told


def _failed_state(
    failed: Failed,
    state: TargetState,
    events: Sequence[Held],
    retries: Retries,
    now: datetime.datetime,
) -> tuple[TargetState, float | None]:
    """Return the state, and in how many seconds the message is tried again; None for never."""
    if failed.is_final:
        return retries.refused(state, events, failed.reason, now), None
    newest = max(held.at for held in events)
    if retries.is_exhausted(state, newest, now):
        days = retries.give_up_after / 86_400
        reason = f"not delivered within {days:g} days, last: {failed.reason}"
        return retries.given_up(state, events, reason, now), None
    spread = random.random()  # noqa: S311 - spreads retries, protects nothing
    after = retries.failed(
        state, events, now, reason=failed.reason, retry_after=failed.retry_after, spread=spread
    )
    wait = (after.next_at - now).total_seconds() if after.next_at else 0.0
    return after, round(wait, 1)

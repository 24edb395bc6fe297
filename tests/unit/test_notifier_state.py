"""How a delivery changes what the notifier remembers of a target."""

import datetime

import pytest

from mediabus.consumers.notifier.schedule import Held
from mediabus.consumers.notifier.state import MAX_RETRY_AFTER, OPEN_AFTER, Retries, TargetState
from mediabus.schemas.docs.examples import example
from mediabus.schemas.events import EVENT_TYPES

NOW = datetime.datetime(2026, 7, 1, 12, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)
RETRIES = Retries(delays=(5, 30, 300, 1800, 7200, 21_600), give_up_after=3 * 86_400)
EVENT = Held(7, example(EVENT_TYPES["download.failed"]), NOW)


def failed(state: TargetState, retry_after: float | None = None) -> TargetState:
    return RETRIES.failed(state, [EVENT], NOW, reason="away", retry_after=retry_after, spread=0.0)


def test_delays_grow_and_the_last_one_repeats() -> None:
    state, delays = TargetState(), []
    for _ in range(8):
        state = failed(state)
        assert state.next_at is not None
        delays.append((state.next_at - NOW).total_seconds())
    assert delays == [5, 30, 300, 1800, 7200, 21_600, 21_600, 21_600]
    assert (state.failures, state.attempts, state.sending) == (8, 8, (EVENT.id,))


@pytest.mark.parametrize(
    ("asked", "waits"), [(1, 5), (3600, 3600), (MAX_RETRY_AFTER * 9, MAX_RETRY_AFTER)]
)
def test_a_target_may_ask_to_wait_longer_but_not_for_more_than_a_day(
    asked: float, waits: float
) -> None:
    state = failed(TargetState(), retry_after=asked)
    assert state.next_at == NOW + datetime.timedelta(seconds=waits)


def test_a_success_forgets_the_failures() -> None:
    state = RETRIES.delivered(failed(failed(TargetState())), [EVENT], NOW, keep=0)
    assert state == TargetState(done=state.done)
    assert state.done[EVENT.id].reason == ""
    assert state.behind(EVENT.seq + 1).done == {}


def test_refusals_open_the_circuit_too() -> None:
    state = TargetState()
    for number in range(1, OPEN_AFTER + 1):
        state = RETRIES.refused(state, [EVENT], "HTTP 400", NOW)
        assert (state.next_at is not None) is (number >= OPEN_AFTER)
    assert state.is_failing
    assert state.done[EVENT.id].reason == "HTTP 400"


def test_three_days_count_from_the_first_failure_or_from_the_event() -> None:
    state = TargetState(failing_since=NOW)
    late = NOW + datetime.timedelta(days=3)
    assert not RETRIES.is_exhausted(state, NOW - 99 * HOUR, late - HOUR)
    assert RETRIES.is_exhausted(state, NOW - 99 * HOUR, late)
    assert not RETRIES.is_exhausted(state, NOW + HOUR, late)
    assert not RETRIES.is_exhausted(TargetState(), NOW - 99 * HOUR, late)


def test_what_a_clock_that_was_ahead_has_written_delays_nothing() -> None:
    year = datetime.timedelta(days=365)
    state = TargetState(next_at=NOW + year, sent=(NOW + year, NOW - HOUR))
    pressure = RETRIES.pressure(state, NOW)
    assert pressure.next_at is None
    assert pressure.sent == (NOW - HOUR,)
    soon = TargetState(next_at=NOW + HOUR)
    assert RETRIES.pressure(soon, NOW).next_at == NOW + HOUR

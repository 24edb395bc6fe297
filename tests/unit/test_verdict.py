"""What becomes of a message that was not handled: tried again, or buried."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from consumers.verdict import (
    LONGEST_DELAY,
    MOST_DELIVERIES,
    Bury,
    Rejected,
    Retry,
    RetryLater,
    verdict_on,
)
from schemas.codec import InvalidEvent

DELIVERIES = some.integers(1, 10_000)


@given(DELIVERIES)
def test_what_is_invalid_or_rejected_is_buried_at_once_with_the_reason(deliveries: int) -> None:
    assert verdict_on(InvalidEvent("no id"), deliveries=deliveries) == Bury("invalid", "no id")
    assert verdict_on(Rejected("too old"), deliveries=deliveries) == Bury("rejected", "too old")


@given(DELIVERIES)
def test_what_is_not_the_events_fault_is_tried_for_ever(deliveries: int) -> None:
    verdict = verdict_on(RetryLater("disk full"), deliveries=deliveries)
    assert isinstance(verdict, Retry)
    assert 1 <= verdict.delay <= LONGEST_DELAY


@pytest.mark.parametrize(
    ("deliveries", "delay"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (9, 60)]
)
def test_the_pauses_double_up_to_a_minute(deliveries: int, delay: float) -> None:
    assert verdict_on(KeyError("x"), deliveries=deliveries) == Retry(delay)


def test_what_keeps_failing_is_buried_with_its_last_error() -> None:
    assert isinstance(verdict_on(KeyError("x"), deliveries=MOST_DELIVERIES - 1), Retry)
    assert verdict_on(KeyError("x"), deliveries=MOST_DELIVERIES) == Bury(
        "failed", f"KeyError: 'x', {MOST_DELIVERIES} times"
    )

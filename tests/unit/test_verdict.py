"""``verdict_on``: a message that was not handled is retried or dead-lettered."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from mediabus.consumers.verdict import (
    MAX_DELAY,
    MAX_DELIVERIES,
    DeadLetter,
    Rejected,
    Retry,
    RetryLater,
    verdict_on,
)
from mediabus.schemas.codec import InvalidEvent

DELIVERIES = some.integers(1, 10_000)


@given(DELIVERIES)
def test_an_invalid_or_rejected_message_is_dead_lettered_at_once(deliveries: int) -> None:
    assert verdict_on(InvalidEvent("no id"), deliveries=deliveries) == DeadLetter(
        "invalid", "no id"
    )
    assert verdict_on(Rejected("too old"), deliveries=deliveries) == DeadLetter(
        "rejected", "too old"
    )


@given(DELIVERIES)
def test_retry_later_is_retried_without_limit(deliveries: int) -> None:
    verdict = verdict_on(RetryLater("disk full"), deliveries=deliveries)
    assert isinstance(verdict, Retry)
    assert 1 <= verdict.delay <= MAX_DELAY


@pytest.mark.parametrize(
    ("deliveries", "delay"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (9, 60)]
)
def test_delays_double_up_to_a_minute(deliveries: int, delay: float) -> None:
    assert verdict_on(KeyError("x"), deliveries=deliveries) == Retry(delay)


def test_the_last_delivery_is_dead_lettered_with_its_error() -> None:
    assert isinstance(verdict_on(KeyError("x"), deliveries=MAX_DELIVERIES - 1), Retry)
    assert verdict_on(KeyError("x"), deliveries=MAX_DELIVERIES) == DeadLetter(
        "failed", f"KeyError: 'x', {MAX_DELIVERIES} times"
    )

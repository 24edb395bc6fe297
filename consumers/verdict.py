"""What becomes of a message after it was handled: a pure rule."""

import dataclasses
from typing import Final

from schemas.codec import InvalidEvent

FIRST_DELAY: Final = 1.0
LONGEST_DELAY: Final = 60.0
MOST_DELIVERIES: Final = 10
"""After about five minutes of trying, a message goes to the dead letters; retry it from there."""


class Rejected(Exception):
    """A handler's word that trying again will not help; the message says why."""


class RetryLater(Exception):
    """A handler's word that the fault is not the event's: try again, however often."""


@dataclasses.dataclass(frozen=True)
class Retry:
    """Deliver it again after ``delay`` seconds."""

    delay: float


@dataclasses.dataclass(frozen=True)
class Bury:
    """Move it to the dead letters."""

    kind: str
    reason: str


Verdict = Retry | Bury


def verdict_on(error: Exception, *, deliveries: int) -> Verdict:
    """The verdict on a message that was not handled, and was delivered ``deliveries`` times, this
    one included."""
    match error:
        case InvalidEvent():
            return Bury("invalid", str(error))
        case Rejected():
            return Bury("rejected", str(error))
        case RetryLater():
            return Retry(_delay(deliveries))
        case _ if deliveries >= MOST_DELIVERIES:
            return Bury("failed", f"{type(error).__name__}: {error}, {deliveries} times")
        case _:
            return Retry(_delay(deliveries))


def _delay(deliveries: int) -> float:
    """Doubles from one second to a minute."""
    return min(FIRST_DELAY * 2.0 ** min(deliveries - 1, 10), LONGEST_DELAY)

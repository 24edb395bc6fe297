"""The rule that decides what happens to a message whose handler failed. Pure: no I/O."""

import dataclasses
from collections.abc import Sequence
from typing import Final

from mediabus.schemas.codec import InvalidEvent

FIRST_DELAY: Final = 1.0
MAX_DELAY: Final = 60.0
"""Seconds between two deliveries of a message."""

MAX_DELIVERIES: Final = 10
"""About five minutes of retries. After that a message is dead-lettered; retry it from there."""


class Rejected(Exception):
    """Raised by a handler for an event that it can never handle. The message is the reason.

    The event is dead-lettered at once.

    >>> async def convert(envelope: mediabus.Envelope) -> None:
    ...     if envelope.event is None:
    ...         raise mediabus.Rejected(f"unknown type {envelope.type}")
    """


class RetryLater(Exception):
    """Raised by a handler when the event is not at fault, for example during an outage.

    The event is redelivered without limit: ``after`` so many seconds, or by default with the delays
    of the retry policy.

    >>> async def notify(envelope: mediabus.Envelope) -> None:
    ...     try:
    ...         await asyncio.open_connection("127.0.0.1", 1)
    ...     except OSError as error:
    ...         raise mediabus.RetryLater(f"the phone is unreachable: {error}") from error
    """

    def __init__(self, reason: str = "", *, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """When ``consume`` delivers an event again whose handler raised.

    ``delays`` are the seconds before each further delivery; the last one repeats. Up to ``jitter``
    of a delay is added at random, so that consumers that failed together do not retry together.
    After ``limit`` deliveries the event is dead-lettered; None sets no limit.

    >>> policy = mediabus.RetryPolicy(delays=(5, 30, 300), limit=6)
    >>> [policy.delay(deliveries, spread=0) for deliveries in (1, 2, 3, 4)]
    [5, 30, 300, 300]
    """

    delays: Sequence[float] = (1, 2, 4, 8, 16, 32, 60)
    jitter: float = 0.1
    limit: int | None = MAX_DELIVERIES

    def __post_init__(self) -> None:
        if not self.delays or min(self.delays) < 0:
            raise ValueError("RetryPolicy: delays must name at least one number of seconds")
        if not 0 <= self.jitter <= 1:
            raise ValueError("RetryPolicy: jitter must be between 0 and 1")
        if self.limit is not None and self.limit < 1:
            raise ValueError("RetryPolicy: limit must be at least 1, or None")

    def delay(self, deliveries: int, *, spread: float) -> float:
        """Return the seconds until the next delivery. ``spread`` is a number from 0 to 1."""
        base = self.delays[min(deliveries, len(self.delays)) - 1]
        return base + base * self.jitter * spread if spread else base


@dataclasses.dataclass(frozen=True)
class Retry:
    """Redeliver the message after ``delay`` seconds."""

    delay: float


@dataclasses.dataclass(frozen=True)
class DeadLetter:
    """Move the message to the dead letters."""

    kind: str
    reason: str


Verdict = Retry | DeadLetter


def verdict_on(
    error: Exception,
    *,
    deliveries: int,
    policy: RetryPolicy | None = None,
    spread: float = 0.0,
) -> Verdict:
    """Decide what happens to a message that failed with ``error``.

    ``deliveries`` is how often the message was delivered, this delivery included. ``policy``
    replaces the default delays and limit; ``spread``, from 0 to 1, is its share of jitter.
    """
    delay = policy.delay(deliveries, spread=spread) if policy else _delay(deliveries)
    limit = policy.limit if policy else MAX_DELIVERIES
    match error:
        case InvalidEvent():
            return DeadLetter("invalid", str(error))
        case Rejected():
            return DeadLetter("rejected", str(error))
        case RetryLater(after=after):
            return Retry(delay if after is None else after)
        case _ if limit is not None and deliveries >= limit:
            return DeadLetter("failed", f"{type(error).__name__}: {error}, {deliveries} times")
        case _:
            return Retry(delay)


def _delay(deliveries: int) -> float:
    """Back off exponentially from FIRST_DELAY to MAX_DELAY."""
    return min(FIRST_DELAY * 2.0 ** min(deliveries - 1, 10), MAX_DELAY)

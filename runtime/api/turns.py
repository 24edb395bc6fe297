"""Limit queries: a few at a time, a bounded queue and a time limit.

So queries cannot take the database connections and the time that storing events needs.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from mediabus.runtime.api.requests import OperationError, problem

LISTS_AT_A_TIME: Final = 3
"""Connections that lists may use in a process that also runs operations and the relay."""

MOST_WAITING: Final = 64
ANSWER_WITHIN: Final = 20.0


class Turns:
    """Answers ``at_a_time`` requests at once and queues ``most_waiting`` more.

    ``within`` is the time limit in seconds, the wait included.
    """

    def __init__(
        self,
        at_a_time: int,
        *,
        most_waiting: int = MOST_WAITING,
        within: float = ANSWER_WITHIN,
    ) -> None:
        self._places = asyncio.Semaphore(at_a_time)
        self._most = at_a_time + most_waiting
        self._within = within
        self._taken = 0

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn and hold it while open.

        Raises OperationError ``busy`` if the queue is full, and ``too_slow`` after the time limit.
        """
        if self._taken >= self._most:
            message = "too many questions at once: try again in a moment, or ask fewer at a time"
            raise OperationError(problem(503, "busy", message))
        self._taken += 1
        try:
            async with asyncio.timeout(self._within) as limit, self._places:
                yield
        except TimeoutError as error:
            if not limit.expired():
                raise
            message = (
                f"no answer within {self._within:.0f} s: narrow the question, for instance with "
                "`since` or `type`, or try again when less is asked"
            )
            raise OperationError(problem(503, "too_slow", message)) from error
        finally:
            self._taken -= 1

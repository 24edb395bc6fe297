"""Count the stored events in steps of time, for graphs."""

import dataclasses
import datetime
from collections.abc import Iterable
from typing import Final, Self

import asyncpg
import msgspec

from mediabus.consumers.history.filters import filtered, in_utc
from mediabus.runtime.api.serve import OperationError, problem
from mediabus.schemas.operations.requests import HistoryTimeline, Timeline

HOUR: Final = datetime.timedelta(hours=1)
MAX_STEPS: Final = 1500
"""Steps of a timeline: a minute each, this is a day."""

TIMELINE: Final = """
SELECT floor(extract(epoch FROM occurred_at - $?) / $?::int)::int AS nth,
       count(*) AS count,
       count(*) FILTER (WHERE severity = 'error') AS errors,
       percentile_disc(0.95) WITHIN GROUP (
           ORDER BY greatest(extract(epoch FROM recorded_at - occurred_at), 0)
       )::float8 AS lag
FROM events
"""
BY_STEP: Final = " GROUP BY 1"


@dataclasses.dataclass(frozen=True)
class Span:
    """The steps of a timeline."""

    since: datetime.datetime
    until: datetime.datetime
    step: int

    @classmethod
    def of(cls, request: HistoryTimeline) -> Self:
        """Return the steps that a request asks for.

        Raises OperationError if ``since`` is not before ``until``, or if there are too many steps.
        """
        until = in_utc("until", request.until or datetime.datetime.now(datetime.UTC))
        since = in_utc("since", request.since) if request.since else _hour_before(until)
        span = cls(since, until, request.step)
        if since >= until:
            raise OperationError(
                problem(400, "invalid_request", "since must be before until", "since")
            )
        if span.steps > MAX_STEPS:
            message = f"{span.steps} steps are too many: use at most {MAX_STEPS}, or a larger step"
            raise OperationError(problem(400, "invalid_request", message, "step"))
        return span

    @property
    def steps(self) -> int:
        """The number of steps, the last one possibly shorter."""
        seconds = (self.until - self.since).total_seconds()
        return int(-(-seconds // self.step))

    def filled(self, rows: Iterable[asyncpg.Record]) -> Timeline:
        """Return the timeline with the figures of ``rows``, and zero elsewhere."""
        counts, errors = [0] * self.steps, [0] * self.steps
        lags: list[float | None] = [None] * self.steps
        for row in rows:
            nth = row["nth"]
            counts[nth], errors[nth], lags[nth] = row["count"], row["errors"], row["lag"]
        return Timeline(since=self.since, step=self.step, counts=counts, errors=errors, lags=lags)


def _hour_before(moment: datetime.datetime) -> datetime.datetime:
    return max(moment, EARLIEST + HOUR) - HOUR


EARLIEST: Final = datetime.datetime.min.replace(tzinfo=datetime.UTC)


def timeline_query(request: HistoryTimeline, span: Span) -> tuple[str, list[object]]:
    """Return the statement that counts the events of each step, and its arguments."""
    bounded = msgspec.structs.replace(request, since=span.since, until=span.until)
    query = filtered(bounded)
    counting = query.add(TIMELINE, span.since, span.step)
    return counting + query.where() + BY_STEP, query.args

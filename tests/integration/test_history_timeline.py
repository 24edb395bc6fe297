"""The history counts events in steps of time, by the index on the time."""

import datetime
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from mediabus.api.errors import OperationFailed
from mediabus.api.operations import History as HistoryClient
from mediabus.consumers.history.query import serve_history
from mediabus.consumers.history.timeline import MAX_STEPS, Span, timeline_query
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.postgres.database import Pool
from mediabus.schemas.operations.requests import HistoryTimeline, Timeline

NOON = datetime.datetime(2026, 11, 22, 12, 0, tzinfo=datetime.UTC)
MINUTE = datetime.timedelta(minutes=1)

FILL = """
INSERT INTO events (id, occurred_at, recorded_at, stream_seq, category, type, severity, source,
                    data)
SELECT gen_random_uuid(), moment, moment + make_interval(secs => $4), n, 'system',
       CASE WHEN n % 3 = 0 THEN 'job.failed' ELSE 'job.executed' END,
       CASE WHEN n % 3 = 0 THEN 'error' ELSE 'info' END, 'test', '{"job_name": "scan"}'
FROM (SELECT n, $1::timestamptz + n * $2::interval AS moment
      FROM generate_series(1, $3::int) AS n) AS event
"""


async def fill(
    pool: Pool, since: datetime.datetime, every: datetime.timedelta, count: int, lag: float = 0
) -> None:
    for month in {since.replace(day=1), (since + every * count).replace(day=1)}:
        await pool.execute("SELECT ensure_events_partition($1)", month)
    await pool.execute(FILL, since, every, count, lag)


@pytest.fixture
async def history(bus: Bus, pool: Pool) -> AsyncIterator[HistoryClient]:
    async with serve_history(bus, pool):
        yield HistoryClient(bus, None)


async def test_a_timeline_counts_events_errors_and_lag_of_each_step(
    history: HistoryClient, pool: Pool
) -> None:
    await fill(pool, NOON, datetime.timedelta(seconds=10), 9, lag=1.5)
    timeline = await history.timeline(since=NOON, until=NOON + 3 * MINUTE, step=60)
    assert timeline == Timeline(
        since=NOON, step=60, counts=[5, 4, 0], errors=[1, 2, 0], lags=[1.5, 1.5, None]
    )


async def test_a_timeline_defaults_to_the_last_hour_by_minute(
    history: HistoryClient, pool: Pool
) -> None:
    now = datetime.datetime.now(datetime.UTC)
    await fill(pool, now - 5 * MINUTE, datetime.timedelta(seconds=1), 1)
    await fill(pool, now - 90 * MINUTE, datetime.timedelta(seconds=1), 1)
    timeline = await history.timeline()
    assert (timeline.step, len(timeline.counts), sum(timeline.counts)) == (60, 60, 1)


async def test_a_timeline_is_filtered(history: HistoryClient, pool: Pool) -> None:
    await fill(pool, NOON, datetime.timedelta(seconds=1), 9)
    timeline = await history.timeline(type="job.failed", since=NOON, until=NOON + MINUTE)
    assert timeline.counts == timeline.errors == [3]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"since": NOON, "until": NOON}, "since"),
        ({"since": NOON, "until": NOON + (MAX_STEPS + 1) * MINUTE}, "step"),
        ({"since": datetime.datetime.min.replace(tzinfo=datetime.UTC)}, "step"),
        ({"step": 0}, "step"),
        ({"until": datetime.datetime.min.replace(tzinfo=datetime.UTC)}, "since"),
    ],
)
async def test_a_bad_request_names_its_field(
    history: HistoryClient, request_: dict[str, Any], field: str
) -> None:
    with pytest.raises(OperationFailed) as refused:
        await history.timeline(**request_)
    assert (refused.value.code, refused.value.field) == (400, field)


async def test_a_timeline_of_an_hour_reads_only_that_hour(pool: Pool) -> None:
    await fill(pool, NOON, datetime.timedelta(seconds=20), 60_000)  # two weeks
    await pool.execute("ANALYZE events")
    request = HistoryTimeline(until=NOON + 10_000 * MINUTE)
    statement, args = timeline_query(request, Span.of(request))
    plan = await pool.fetchval("EXPLAIN (ANALYZE, FORMAT JSON) " + statement, *args)
    nodes = list(_nodes(msgspec.json.decode(plan)[0]["Plan"]))
    scans = [node for node in nodes if "Relation Name" in node]
    assert {node["Node Type"] for node in scans} <= {"Index Scan", "Bitmap Heap Scan"}
    assert sum(node["Actual Rows"] for node in scans) == 180


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for inner in plan.get("Plans", ()) for node in _nodes(inner))]

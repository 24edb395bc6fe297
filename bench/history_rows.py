"""Generate two years of events inside PostgreSQL."""

import asyncio
import datetime
import itertools
import shutil
from pathlib import Path
from typing import Final

from bench.report import Section
from mediabus.runtime.postgres.database import Pool
from mediabus.schemas.events import EVENT_TYPES

MONTHS: Final = 24
TYPES: Final = sorted(EVENT_TYPES)
ACTORS: Final = 50
EVENTS_OF_A_RESOURCE: Final = 20
SIDE_BY_SIDE: Final = 2

BYTES_A_ROW: Final = 1500
"""Bytes per event, including indexes, WAL and sorting; a generous estimate."""

LEAVE_FREE: Final = 10 * 2**30

# The events $3 to $4 - 1, spread over the time from $1 to $2.
FILL: Final = """
INSERT INTO events (id, occurred_at, stream_seq, category, type, severity, source, actor_type,
                    actor_id, resource_type, resource_id, data)
SELECT uuidv7(moment - clock_timestamp()), moment, n, 'downloads',
       ($5::text[])[1 + n % cardinality($5::text[])],
       CASE WHEN n % 50 = 0 THEN 'error' ELSE 'info' END, 'mediabus/downloads', 'user',
       'user-' || n % $6::int, 'download', md5((n % $7::int)::text)::uuid::text,
       jsonb_build_object('title', 'Dune.Part.One.2021.2160p.WEB-DL', 'client', 'home',
                          'client_item', md5(n::text), 'size', 23622320128, 'duration', 1234.5,
                          'save_path', '/downloads/movies')
FROM (SELECT n, $1::timestamptz + ($2::timestamptz - $1) * ((n - $3::bigint)::float8 / ($4 - $3))
             AS moment
      FROM generate_series($3::bigint, $4::bigint - 1) AS n) AS event
"""


async def fill(pool: Pool, total: int, now: datetime.datetime) -> None:
    """Insert ``total`` events into an emptied table, evenly over the months up to ``now``."""
    await pool.execute("TRUNCATE events")
    edges = [*month_starts(now), now]
    at_a_time = asyncio.Semaphore(SIDE_BY_SIDE)
    resources = max(1, total // EVENTS_OF_A_RESOURCE)

    async def month(number: int, begin: datetime.datetime, end: datetime.datetime) -> None:
        first, beyond = total * number // MONTHS, total * (number + 1) // MONTHS
        async with at_a_time:
            await pool.execute("SELECT ensure_events_partition($1)", begin)
            await pool.execute(
                FILL, begin, end, first, beyond, TYPES, ACTORS, resources, timeout=3600
            )

    async with asyncio.TaskGroup() as tasks:
        for number, (begin, end) in enumerate(itertools.pairwise(edges)):
            tasks.create_task(month(number, begin, end))
    await pool.execute("VACUUM ANALYZE events", timeout=3600)
    await pool.execute("CHECKPOINT", timeout=3600)


def month_starts(now: datetime.datetime) -> list[datetime.datetime]:
    """Return the starts of the last months, the current one last."""
    month = now.year * 12 + now.month - 1
    return [
        datetime.datetime(number // 12, number % 12 + 1, 1, tzinfo=datetime.UTC)
        for number in range(month - MONTHS + 1, month + 1)
    ]


def that_fit(section: Section, wanted: int, folder: Path) -> int:
    """Return how many events fit on the disk."""
    room = max(0, shutil.disk_usage(folder).free - LEAVE_FREE) // BYTES_A_ROW
    if room < wanted:
        section.note(f"The disk has room for {room:,} events only, not for {wanted:,}.")
    return min(wanted, room)

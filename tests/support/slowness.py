"""A PostgreSQL that stores events slowly, and what the processes have in memory meanwhile."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from mediabus.runtime.postgres.database import Pool

# One writer at a time: each by itself would have this rate.
SLOW_DOWN = """
CREATE TABLE slowness (seconds float);
CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM slowness) THEN
        PERFORM pg_advisory_xact_lock(50);
        PERFORM pg_sleep(seconds) FROM slowness;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER slowly BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION slowly();
"""

# Those that serve this database, and those that serve all.
OF_POSTGRES = """
SELECT pid FROM pg_stat_activity WHERE datname = current_database() OR datname IS NULL
"""


@contextlib.asynccontextmanager
async def storing_slowly(pool: Pool, rate: float) -> AsyncIterator[None]:
    """PostgreSQL stores ``rate`` events a second and no more, until this is left."""
    await pool.execute(SLOW_DOWN)
    await pool.execute("INSERT INTO slowness VALUES ($1)", 1 / rate)
    try:
        yield
    finally:
        await pool.execute("DELETE FROM slowness")  # seen at once, in the middle of a statement


def memory_of(pid: int) -> float:
    """What a process has in memory, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) / 1024


async def memory_of_postgres(pool: Pool) -> float:
    """Return the memory of PostgreSQL's largest process, in MB.

    They share buffers, which count for each.
    """
    most = 0.0
    for row in await pool.fetch(OF_POSTGRES):
        with contextlib.suppress(OSError, StopIteration):  # it has just ended
            most = max(most, memory_of(row["pid"]))
    return most

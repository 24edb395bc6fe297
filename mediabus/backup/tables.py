"""PostgreSQL tables in a backup: in the text format of COPY, from one snapshot.

It needs no pg_dump, and any major version of PostgreSQL can read the rows.
"""

import datetime
from collections.abc import AsyncIterator
from typing import IO, Final

import asyncpg

from mediabus.backup.archive import Archive, BackupError, DatabaseBackup, TableBackup
from mediabus.backup.progress import Progress
from mediabus.runtime.postgres.database import Connection, Pool
from mediabus.runtime.postgres.schema import migrate, migrations

NOT_COPIED: Final = (
    "mediabus_migrations",
    "mediabus_migration_lock",
    "events_partitions_guard",
    "leases",
)
"""Tables that the migrations fill, and leases, which belong to running processes."""

NO_LIMIT: Final = 86_400.0
PART: Final = 256 * 1024

TABLES: Final = """
SELECT c.relname::text AS name, coalesce(parent.relname, c.relname)::text AS target,
       array_agg(a.attname::text ORDER BY a.attnum) AS columns
FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
LEFT JOIN pg_inherits AS i ON i.inhrelid = c.oid
LEFT JOIN pg_class AS parent ON parent.oid = i.inhparent
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'
  AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
  AND c.relname <> ALL ($1::text[])
GROUP BY c.relname, parent.relname ORDER BY c.relname = 'downloads', c.relname
"""
SEQUENCES: Final = """
SELECT sequencename::text AS name, coalesce(last_value, 0) AS value
FROM pg_sequences WHERE schemaname = current_schema() ORDER BY sequencename
"""
MONTHS: Final = "SELECT DISTINCT date_trunc('month', occurred_at, 'UTC') AS month FROM events"
VERSION: Final = "SELECT max(number) FROM mediabus_migrations"
IS_MIGRATED: Final = "SELECT to_regclass('mediabus_migrations') IS NOT NULL"
ANY_ROWS: Final = """
SELECT EXISTS (SELECT FROM events) OR EXISTS (SELECT FROM media_items)
    OR EXISTS (SELECT FROM downloads) OR EXISTS (SELECT FROM outbox)
"""
SET_SEQUENCE: Final = "SELECT setval($1::text::regclass, greatest($2::bigint, 1), $2::bigint > 0)"
ENSURE_PARTITION: Final = "SELECT ensure_events_partition($1)"
CLEAR: Final = """
DO $$
DECLARE name text;
BEGIN  -- of what the migrations wrote; the caller has made sure that there is nothing else
    FOR name IN SELECT relname FROM pg_class
                WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')
                  AND NOT relispartition AND relname NOT IN
                  ('mediabus_migrations', 'mediabus_migration_lock', 'events_partitions_guard',
                   'leases')
    LOOP
        EXECUTE format('TRUNCATE %I CASCADE', name);
    END LOOP;
END
$$
"""


async def save_database(
    pool: Pool, archive: Archive, name: str, progress: Progress
) -> DatabaseBackup:
    """Write all tables from one snapshot. Raises BackupError if there is no schema."""
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        if not await connection.fetchval(IS_MIGRATED):
            raise BackupError("the database has no mediabus schema: run `mediabus migrate`")
        schema = await connection.fetchval(VERSION)
        months = [row["month"] for row in await connection.fetch(MONTHS, timeout=NO_LIMIT)]
        tables = [
            await _save_table(connection, archive, name, row, progress)
            for row in await connection.fetch(TABLES, list(NOT_COPIED))
        ]
        # Last: numbers drawn meanwhile make a sequence too high, never too low.
        sequences = {row["name"]: row["value"] for row in await connection.fetch(SEQUENCES)}
    return DatabaseBackup(schema, tables, sorted(months), sequences)


async def _save_table(
    connection: Connection,
    archive: Archive,
    database: str,
    table: asyncpg.Record,
    progress: Progress,
) -> TableBackup:
    name, columns = table["name"], table["columns"]
    progress.begin(name)
    with archive.writing(_member(database, name)) as member:

        async def write(part: bytes) -> None:
            member.write(part)
            progress.add(len(part))

        status = await connection.copy_from_table(
            name, output=write, columns=columns, timeout=NO_LIMIT
        )
    return TableBackup(name, table["target"], columns, int(status.rpartition(" ")[2]))


async def check_is_empty(pool: Pool) -> None:
    """Raise BackupError if the database has events, media items, downloads or outbox rows."""
    if await pool.fetchval(IS_MIGRATED) and await pool.fetchval(ANY_ROWS):
        raise BackupError(
            "the database is not empty: restore to an empty database or data directory"
        )


async def load_database(
    pool: Pool, archive: Archive, name: str, saved: DatabaseBackup, progress: Progress
) -> None:
    """Fill an empty database, then bring its schema up to date.

    Raises:
        BackupError: A newer version of mediabus made the backup.
    """
    if saved.schema > max(migrations()):
        raise BackupError(
            f"the backup has schema {saved.schema}, this version supports up to "
            f"{max(migrations())}: restore it with the version that made it, or a later one"
        )
    await migrate(pool, up_to=saved.schema)
    async with pool.acquire() as connection, connection.transaction():
        for month in saved.months:
            await connection.execute(ENSURE_PARTITION, month)
        await connection.execute(CLEAR)
        for table in saved.tables:
            await _load_table(connection, archive, name, table, progress)
        for sequence, value in saved.sequences.items():
            await connection.execute(SET_SEQUENCE, sequence, value)
    await migrate(pool)


async def _load_table(
    connection: Connection,
    archive: Archive,
    database: str,
    table: TableBackup,
    progress: Progress,
) -> None:
    progress.begin(table.name, archive.size_of(_member(database, table.name)))
    with archive.reading(_member(database, table.name)) as member:
        try:
            await connection.copy_to_table(
                table.target,
                source=_parts(member, progress),
                columns=table.columns,
                timeout=NO_LIMIT,
            )
        except asyncpg.DataError as error:
            raise BackupError(f"table {table.name} cannot be restored: {error}") from error


async def _parts(member: IO[bytes], progress: Progress) -> AsyncIterator[bytes]:
    while part := member.read(PART):
        yield part
        progress.add(len(part))


async def now_in(pool: Pool) -> datetime.datetime:
    """Return the current time of PostgreSQL."""
    moment: datetime.datetime = await pool.fetchval("SELECT clock_timestamp()")
    return moment


def _member(database: str, table: str) -> str:
    return f"postgres/{database}/{table}.copy"

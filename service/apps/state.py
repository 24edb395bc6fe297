"""The table ``apps``: contact, reachability and progress of each application."""

import datetime
from typing import Final

import msgspec

from mediabus.runtime.postgres.database import Pool
from mediabus.schemas.events import ApplicationUpdated, AppRecovered, AppUnreachable
from mediabus.schemas.status import UnreachableReason
from mediabus.service.apps.envelope import app_event
from mediabus.service.apps.settings import AppSettings
from mediabus.service.clients.limits import MAX_MESSAGE_LENGTH, cut
from mediabus.service.clients.port import ClientUnavailable
from mediabus.service.outbox.outbox import Outbox

MEET: Final = """
INSERT INTO apps (name, kind, met_at, newest_at, imported_since) VALUES ($1, $2, $3, $3, $3)
ON CONFLICT (name) DO UPDATE SET kind = $2
"""
LIST: Final = "SELECT * FROM apps ORDER BY name"
READ: Final = "SELECT reachable, since, version FROM apps WHERE name = $1 FOR UPDATE"
ANSWERED: Final = """
UPDATE apps SET reachable = true, reason = NULL, error_message = NULL, version = $2,
                read_at = now(), since = CASE WHEN reachable THEN since ELSE now() END
WHERE name = $1
"""
LOST: Final = """
UPDATE apps SET reachable = false, since = $2, reason = $3, error_message = $4 WHERE name = $1
"""
WOKEN: Final = "UPDATE apps SET webhook_at = now() WHERE name = $1"
IMPORT: Final = """
UPDATE apps SET backfill_since = $2, backfill_at = $2, backfill_until = imported_since,
                backfill_rows = 0
WHERE name = $1 AND backfill_since IS NULL AND $2 < imported_since
RETURNING name
"""


class AppState(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an application.

    ``newest_at`` is the date of the newest row of its history that was read. The history from
    ``backfill_since`` until ``backfill_until`` is being imported if these are set; it has been
    read up to ``backfill_at``, with ``backfill_rows`` rows.
    """

    name: str
    kind: str
    version: str | None
    met_at: datetime.datetime
    newest_at: datetime.datetime
    reachable: bool
    since: datetime.datetime
    reason: str | None
    error_message: str | None
    read_at: datetime.datetime | None
    webhook_at: datetime.datetime | None
    library_at: datetime.datetime | None
    imported_since: datetime.datetime
    backfill_since: datetime.datetime | None
    backfill_until: datetime.datetime | None
    backfill_at: datetime.datetime | None
    backfill_rows: int
    grabbed_at: datetime.datetime | None


async def list_apps(pool: Pool) -> list[AppState]:
    """Return the applications that were ever configured, by name."""
    return [msgspec.convert(dict(row), AppState) for row in await pool.fetch(LIST)]


async def meet(pool: Pool, settings: AppSettings) -> None:
    """Note the first contact: what happens from now on is read without being asked for."""
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    await pool.execute(MEET, settings.name, settings.kind, now)
    if settings.import_since is not None:
        day = settings.import_since
        since = datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC)
        await request_import(pool, settings.name, since)


async def request_import(pool: Pool, name: str, since: datetime.datetime) -> bool:
    """Request that the history since a date is imported; the reader of the application does it.

    Returns False if that was imported before, if an import is in progress, or if there is no such
    application.
    """
    return await pool.fetchval(IMPORT, name, since) is not None


async def woken(pool: Pool, name: str) -> None:
    """Note that a webhook came."""
    await pool.execute(WOKEN, name)


async def answered(outbox: Outbox, name: str, version: str) -> None:
    """Note that the application answers, and record what that changes."""
    async with outbox.transaction() as work:
        row = await work.connection.fetchrow(READ, name)
        if row is None:
            return
        await work.connection.execute(ANSWERED, name, version)
        now = datetime.datetime.now(datetime.UTC)
        if not row["reachable"]:
            away = max((now - row["since"]).total_seconds(), 0.0)
            await work.record(app_event(name, AppRecovered(app=name, away_seconds=away)))
        if row["version"] not in {None, version}:
            updated = ApplicationUpdated(
                app=name, new_version=version, previous_version=row["version"]
            )
            await work.record(app_event(name, updated))


async def lost(
    outbox: Outbox, name: str, since: datetime.datetime, error: ClientUnavailable
) -> None:
    """Note that the application has not answered since a moment, and record that once."""
    async with outbox.transaction() as work:
        row = await work.connection.fetchrow(READ, name)
        if row is None or not row["reachable"]:
            return
        message = cut(str(error), MAX_MESSAGE_LENGTH)
        reason: UnreachableReason = error.reason
        await work.connection.execute(LOST, name, since, reason, message)
        event = AppUnreachable(app=name, reason=reason, error_message=message)
        await work.record(app_event(name, event))

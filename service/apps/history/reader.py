"""Read the history of one application: every row is one event, however often it is read.

A page of rows, the events that it leads to, and the cursor are one transaction.
"""

import asyncio
import datetime
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from mediabus.runtime import metrics
from mediabus.runtime.postgres.database import Pool
from mediabus.service.apps.history import store
from mediabus.service.apps.history.pages import rows_by_page, rows_since
from mediabus.service.apps.history.rows import Meaning, Row
from mediabus.service.apps.history.state import Known
from mediabus.service.apps.history.story import Story
from mediabus.service.apps.http import AppHttp
from mediabus.service.apps.settings import AppSettings
from mediabus.service.outbox.outbox import Outbox, Recorder

log: Final = logging.getLogger("mediabus.apps")

OVERLAP: Final = datetime.timedelta(minutes=5)
"""How far back the history is read again: a row may appear after a newer one."""

OLDEST: Final = datetime.timedelta(days=3650)
NEWEST: Final = datetime.timedelta(days=1)
"""The ages of rows that are read: no event is stored that is older, or so far in the future."""

MAX_WAITING: Final = 20_000
"""Events in the outbox that the import of the past adds to. It waits until they are stored."""

WAITING: Final = "SELECT count(*) FROM (SELECT FROM outbox LIMIT $1) AS waiting"
APP: Final = "SELECT * FROM apps WHERE name = $1"
BACKFILLED: Final = """
UPDATE apps SET imported_since = least(imported_since, backfill_since),
                backfill_since = NULL, backfill_until = NULL, backfill_at = NULL
WHERE name = $1
"""


class HistoryReader:
    """The history of one application.

    ``learn`` reads the library, and is called when rows name items that are not known yet.
    """

    def __init__(
        self,
        pool: Pool,
        outbox: Outbox,
        settings: AppSettings,
        learn: Callable[[AppHttp], Awaitable[None]],
    ) -> None:
        self._pool = pool
        self._outbox = outbox
        self._settings = settings
        self._name = settings.name
        self._learn = learn

    async def read_new(self, http: AppHttp) -> int:
        """Read what has happened since the last time. Returns the number of new rows.

        Raises:
            ClientUnavailable: the application does not answer. What was read so far is stored.
        """
        app = (await self._pool.fetch(APP, self._name))[0]
        since = max(app["newest_at"] - OVERLAP, app["met_at"])
        found = 0
        async for rows in rows_since(http, since):
            await self._learn_about(http, rows)
            found += await self._store(rows, is_live=True)
        # At each poll: a client's download may have been discovered while its grab was read.
        await self._pool.execute(store.JOIN, self._name)
        return found

    async def read_past(self, http: AppHttp) -> None:
        """Continue the import of the past, if one is requested.

        Raises:
            ClientUnavailable: the application does not answer. The import continues the next time.
        """
        app = (await self._pool.fetch(APP, self._name))[0]
        if app["backfill_since"] is None:
            return
        until = app["backfill_until"]
        start = max(app["backfill_at"] - OVERLAP, app["backfill_since"])
        async for rows in rows_by_page(http, start):
            await self._wait_for_room()
            past = [row for row in rows if row.at < until]
            await self._store(past, is_live=False)
            if len(past) < len(rows):
                break
        await self._pool.execute(BACKFILLED, self._name)
        log.info("history imported", extra={"app": self._name})

    async def end_quiet_imports(self, reached: datetime.datetime | None = None) -> None:
        """Report the imports that have been quiet for a while.

        ``reached`` is the date up to which the past has been imported.
        """
        async with self._outbox.transaction() as work:
            app = (await work.connection.fetch(store.LOCK, self._name))[0]
            quiet = self._settings.import_quiet
            known = await store.quiet(work.connection, self._name, quiet, reached)
            story = Story(self._name, app["met_at"], known)
            for release in known.releases.values():
                story.end_import(release)
            await self._finish(work, known, story, is_live=False)
        metrics.APP_EVENTS.labels(self._name).inc(len(story.events))

    def _measure(self, fresh: Sequence[Row], events: int, *, is_live: bool) -> None:
        """Count what was stored, and measure how late the latest row was read."""
        metrics.APP_ROWS.labels(self._name).inc(len(fresh))
        metrics.APP_EVENTS.labels(self._name).inc(events)
        if is_live and fresh:
            late = datetime.datetime.now(datetime.UTC) - max(row.at for row in fresh)
            metrics.APP_LAG.set(max(late.total_seconds(), 0.0), self._name)

    async def _store(self, rows: Sequence[Row], *, is_live: bool) -> int:
        """Store the events of a page, and move the cursor."""
        rows = _storable(rows, self._name)
        if not rows:
            return 0
        async with self._outbox.transaction() as work:
            app = (await work.connection.fetch(store.LOCK, self._name))[0]
            fresh = await store.claim(work.connection, self._name, rows)
            known = await store.known_about(work.connection, self._name, fresh)
            story = Story(self._name, app["met_at"], known)
            story.read(fresh)
            await self._finish(work, known, story, is_live=is_live)
            await self._move(work, rows, fresh, is_live=is_live)
        self._measure(fresh, len(story.events), is_live=is_live)
        if not is_live:
            await self.end_quiet_imports(max(row.at for row in rows))
        return len(fresh)

    async def _finish(self, work: Recorder, known: Known, story: Story, *, is_live: bool) -> None:
        await store.save(work.connection, self._name, known, is_live=is_live)
        await work.record(*story.events)

    async def _move(
        self, work: Recorder, rows: Sequence[Row], fresh: Sequence[Row], *, is_live: bool
    ) -> None:
        newest = max(row.at for row in rows)
        if is_live:
            grabs = [row.at for row in fresh if row.meaning is Meaning.GRABBED]
            await work.connection.execute(store.MOVE, self._name, newest, max(grabs, default=None))
        else:
            await work.connection.execute(store.MOVE_BACKFILL, self._name, newest, len(fresh))
        if fresh:
            await work.connection.execute(store.PRUNE, self._name)

    async def _learn_about(self, http: AppHttp, rows: Sequence[Row]) -> None:
        """Read the library if the rows name an item that is not in it."""
        owners = {row.owner for row in rows if row.owner and row.meaning is not None}
        known = await self._pool.fetch(store.KNOWN_ITEMS, self._name, list(owners))
        if len(known) < len(owners):
            await self._learn(http)

    async def _wait_for_room(self) -> None:
        """Wait until the events of earlier pages are stored, so that new events are not delayed."""
        while await self._pool.fetchval(WAITING, MAX_WAITING) >= MAX_WAITING:  # noqa: ASYNC110 - other processes empty it
            await asyncio.sleep(0.1)


def _storable(rows: Sequence[Row], app: str) -> list[Row]:
    """Leave out rows with dates that no event may have."""
    now = datetime.datetime.now(datetime.UTC)
    storable = [row for row in rows if now - OLDEST < row.at < now + NEWEST]
    if len(storable) < len(rows):
        fields = {"app": app, "rows": len(rows) - len(storable)}
        log.warning("rows skipped: older than ten years, or a day in the future", extra=fields)
    return storable

"""Downloads: paused, resumed, cancelled, looked at.

Before a client is asked, the row says who asked for what. So whoever sees it come true first, this
operation or the monitor, says so once and in the right name, and a crash in between loses nothing.
"""

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Final
from uuid import UUID

from schemas.commands import (
    CancelDownload,
    Download,
    DownloadById,
    DownloadState,
    ListDownloads,
    Page,
)
from schemas.events import DownloadCancelled, DownloadPaused, DownloadResumed, Event
from schemas.identity import Actor
from schemas.status import DownloadStatus, ItemId
from service.clients.port import ClientRefused, ClientUnavailable, DownloadClient
from service.clients.sessions import NoSuchClient, Sessions
from service.downloads import table
from service.downloads.row import UNFINISHED, Ask, DownloadRow, Transition
from service.downloads.status import Statuses
from service.outbox.outbox import Outbox
from service.runtime.api import OperationError, problem
from service.runtime.database import Pool

LIST: Final = """
SELECT d.*, m.title AS media_title,
       extract(epoch FROM now() - d.created_at)::float8 AS age,
       extract(epoch FROM now() - d.updated_at)::float8 AS unchanged_for,
       extract(epoch FROM now() - d.asked_at)::float8 AS asked_for
FROM downloads AS d LEFT JOIN media_items AS m ON m.id = d.media_item_id
WHERE ($1::text IS NULL OR d.state = $1) AND ($2::text IS NULL OR d.client = $2)
  AND ($3::uuid IS NULL OR d.media_item_id = $3) AND ($4::uuid IS NULL OR d.id < $4)
ORDER BY d.id DESC LIMIT $5
"""


@dataclasses.dataclass(frozen=True)
class _Change:
    """One thing that can be asked of a client: what it is called, from which states to which it
    leads, how the client is asked, and which event tells of it."""

    ask: Ask
    sources: frozenset[DownloadState]
    target: DownloadState
    order: Callable[[DownloadClient, ItemId], Awaitable[None]]
    event: Callable[[DownloadRow, DownloadStatus | None], Event]


def _progress(status: DownloadStatus | None) -> float | None:
    return status.progress if status else None


PAUSE: Final = _Change(
    ask="pause",
    sources=frozenset({"active", "stalled"}),
    target="paused",
    order=lambda client, item: client.pause(item),
    event=lambda row, status: DownloadPaused(**row.facts(), progress=_progress(status)),
)
RESUME: Final = _Change(
    ask="resume",
    sources=frozenset({"paused"}),
    target="active",
    order=lambda client, item: client.resume(item),
    event=lambda row, _: DownloadResumed(**row.facts()),
)


def _cancel(*, delete_files: bool) -> _Change:
    return _Change(
        ask="cancel_with_files" if delete_files else "cancel",
        sources=UNFINISHED,
        target="cancelled",
        order=lambda client, item: client.remove(item, delete_files=delete_files),
        event=lambda row, status: DownloadCancelled(
            **row.facts(), progress=_progress(status), files_deleted=delete_files
        ),
    )


class Downloads:
    """The operations on downloads that exist. Each raises OperationError and then has changed
    nothing."""

    def __init__(self, pool: Pool, outbox: Outbox, sessions: Sessions, statuses: Statuses) -> None:
        self._pool = pool
        self._outbox = outbox
        self._sessions = sessions
        self._statuses = statuses

    async def pause(
        self, request: DownloadById, actor: Actor, correlation_id: str | None = None
    ) -> Download:
        """Pauses a download; one that is paused stays so, without an event."""
        return await self._change(request.id, PAUSE, actor, correlation_id)

    async def resume(
        self, request: DownloadById, actor: Actor, correlation_id: str | None = None
    ) -> Download:
        """Lets a paused download go on."""
        return await self._change(request.id, RESUME, actor, correlation_id)

    async def cancel(
        self, request: CancelDownload, actor: Actor, correlation_id: str | None = None
    ) -> Download:
        """Takes an unfinished download out of its client."""
        change = _cancel(delete_files=request.delete_files)
        return await self._change(request.id, change, actor, correlation_id)

    async def get(self, download_id: UUID) -> Download:
        """One download with its live status; 404 where there is none."""
        row = await self._row(download_id)
        return row.shown(await self._statuses.of(row))

    async def list(self, request: ListDownloads) -> Page[Download]:
        """A page of downloads with their live statuses, newest first."""
        records = await self._pool.fetch(
            LIST,
            request.state,
            request.client,
            request.media_item_id,
            request.after,
            request.limit + 1,
        )
        rows = [DownloadRow.of(record.items()) for record in records[: request.limit]]
        statuses = await self._statuses.of_all(rows)
        items = [row.shown(status) for row, status in zip(rows, statuses, strict=True)]
        more = len(records) > request.limit
        return Page(items=items, next=str(rows[-1].id) if more else None)

    async def _change(
        self, download_id: UUID, change: _Change, actor: Actor, correlation_id: str | None
    ) -> Download:
        row = await self._row(download_id)
        if row.state == change.target:
            return row.shown(await self._statuses.of(row))
        if row.state not in change.sources or row.client_item is None:
            raise _wrong_state(row, change)
        status = await self._statuses.of(row)
        row = await self._order(row, change, actor, correlation_id)
        while row.state in change.sources:
            told = row.says(change.event(row, status), actor, correlation_id)
            if await table.step(self._outbox, row, Transition(change.target, (told,))):
                break
            row = await self._row(download_id)  # the monitor was faster, with this step or another
        return await self.get(download_id)

    async def _order(
        self, row: DownloadRow, change: _Change, actor: Actor, correlation_id: str | None
    ) -> DownloadRow:
        """Asks the client, having written down who wants it; takes that back after a no."""
        row = await table.ask(self._pool, row, change.ask, actor, correlation_id)
        try:
            await change.order(self._sessions.client(row.client), ItemId(row.client_item or ""))
        except (ClientRefused, ClientUnavailable, NoSuchClient) as error:
            if isinstance(error, NoSuchClient) and change.ask == "cancel":
                return row  # with nobody to be asked, it is given up
            await table.forget(self._pool, row, change.ask)
            raise client_said_no(row.client, error) from error
        await self._statuses.look_soon(row.client)
        return row

    async def _row(self, download_id: UUID) -> DownloadRow:
        row = await table.by_id(self._pool, download_id)
        if row is None:
            raise OperationError(
                problem(404, "unknown_download", f"no download {download_id}", "id")
            )
        return row


def client_said_no(client: str, error: Exception) -> OperationError:
    """The 502 for a client that refused or could not be asked, in its own words."""
    reason = "client_refused" if isinstance(error, ClientRefused) else "client_unavailable"
    message = f"{client}: {error}"
    return OperationError(problem(502, reason, message))


def _wrong_state(row: DownloadRow, change: _Change) -> OperationError:
    verb = change.ask.partition("_")[0]
    return OperationError(
        problem(
            409,
            "wrong_state",
            f"a download that is {row.state} cannot be {_PARTICIPLES[verb]}",
            "id",
        )
    )


_PARTICIPLES: Final = {"pause": "paused", "resume": "resumed", "cancel": "cancelled"}

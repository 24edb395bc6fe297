"""Pause, resume, cancel, get and list downloads.

The operation writes the request and its actor to the row before it calls the client. Either the
operation or the monitor sees the result first, and records one event with that actor. A crash in
between loses nothing.
"""

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Final, Self
from uuid import UUID

import msgspec

from mediabus.runtime.api.pages import paged
from mediabus.runtime.api.serve import OperationError, problem
from mediabus.runtime.api.turns import LISTS_AT_A_TIME, Turns
from mediabus.runtime.postgres.database import Pool
from mediabus.schemas.events import DownloadCancelled, DownloadPaused, DownloadResumed, Event
from mediabus.schemas.identity import Actor
from mediabus.schemas.operations.requests import (
    CancelDownload,
    Download,
    DownloadById,
    DownloadState,
    ListDownloads,
    Page,
)
from mediabus.schemas.status import DownloadStatus, ItemId
from mediabus.service.clients.port import ClientRefused, ClientUnavailable, DownloadClient
from mediabus.service.clients.sessions import NoSuchClient, Sessions
from mediabus.service.downloads import table
from mediabus.service.downloads.bucket import Statuses
from mediabus.service.downloads.row import UNFINISHED, Ask, DownloadRow, Transition
from mediabus.service.outbox.outbox import Outbox


@dataclasses.dataclass(frozen=True)
class _Change:
    """A change that a client can make to a download.

    ``send`` asks the client for it. ``participle`` is for error messages.
    """

    ask: Ask
    participle: str
    sources: frozenset[DownloadState]
    target: DownloadState
    send: Callable[[DownloadClient, ItemId], Awaitable[None]]
    event: Callable[[DownloadRow, DownloadStatus | None], Event]

    @property
    def is_cancel(self) -> bool:
        """Return whether the change ends the download, which needs no id of the client."""
        return self.target == "cancelled"


def _progress(status: DownloadStatus | None) -> float | None:
    return status.progress if status else None


PAUSE: Final = _Change(
    ask="pause",
    participle="paused",
    sources=frozenset({"active", "stalled"}),
    target="paused",
    send=lambda client, item: client.pause(item),
    event=lambda row, status: DownloadPaused(**row.facts(), progress=_progress(status)),
)
RESUME: Final = _Change(
    ask="resume",
    participle="resumed",
    sources=frozenset({"paused"}),
    target="active",
    send=lambda client, item: client.resume(item),
    event=lambda row, _: DownloadResumed(**row.facts()),
)


def _cancel(*, delete_files: bool) -> _Change:
    return _Change(
        ask="cancel_with_files" if delete_files else "cancel",
        participle="cancelled",
        sources=UNFINISHED,
        target="cancelled",
        send=lambda client, item: client.remove(item, delete_files=delete_files),
        event=lambda row, status: DownloadCancelled(
            **row.facts(), progress=_progress(status), files_deleted=delete_files
        ),
    )


class Downloads:
    """Operations on existing downloads. Each raises OperationError and has then changed nothing."""

    def __init__(self, pool: Pool, outbox: Outbox, sessions: Sessions, statuses: Statuses) -> None:
        self._pool = pool
        self._outbox = outbox
        self._sessions = sessions
        self._statuses = statuses
        self._lists = Turns(LISTS_AT_A_TIME)

    def using(self, outbox: Outbox) -> Self:
        """Return the same operations with another outbox."""
        return type(self)(self._pool, outbox, self._sessions, self._statuses)

    async def pause(
        self, request: DownloadById, actor: Actor, correlation_id: str | None = None
    ) -> Download:
        """Pause a download. If it is paused already, nothing changes and no event is recorded."""
        return await self._change(request.id, PAUSE, actor, correlation_id)

    async def resume(
        self, request: DownloadById, actor: Actor, correlation_id: str | None = None
    ) -> Download:
        """Resume a paused download."""
        return await self._change(request.id, RESUME, actor, correlation_id)

    async def cancel(
        self, request: CancelDownload, actor: Actor, correlation_id: str | None = None
    ) -> Download:
        """Remove an unfinished download from its client."""
        change = _cancel(delete_files=request.delete_files)
        return await self._change(request.id, change, actor, correlation_id)

    async def get(self, download_id: UUID) -> Download:
        """Return a download with its live status.

        Raises:
            OperationError: 404 ``unknown_download``.
        """
        row = await self._row(download_id)
        return row.shown(await self._statuses.of(row))

    async def list(self, request: ListDownloads) -> Page[Download]:
        """Return a page of downloads with their live statuses, newest first."""
        async with self._lists.turn():
            found = await table.matching(self._pool, request, request.limit + 1)
        rows = found[: request.limit]
        statuses = await self._statuses.of_all(rows)
        return paged(
            [row.shown(status) for row, status in zip(rows, statuses, strict=True)],
            found=len(found),
            cursor=lambda download: str(download.id),
            stub=lambda download, _: msgspec.structs.replace(
                download, status=None, error_message=None
            ),
        )

    async def _change(
        self, download_id: UUID, change: _Change, actor: Actor, correlation_id: str | None
    ) -> Download:
        row = await self._row(download_id)
        if row.state == change.target:
            return row.shown(await self._statuses.of(row))
        if row.state not in change.sources or (row.client_item is None and not change.is_cancel):
            raise _wrong_state(row, change)
        status = await self._statuses.of(row)
        row = await self._send(row, change, actor, correlation_id)
        while row.state in change.sources:
            fact = row.fact(change.event(row, status), actor, correlation_id)
            if await table.step(self._outbox, row, Transition(change.target, (fact,))):
                break
            row = await self._row(download_id)  # the monitor changed it first
        return await self.get(download_id)

    async def _send(
        self, row: DownloadRow, change: _Change, actor: Actor, correlation_id: str | None
    ) -> DownloadRow:
        """Store the request in the row and send it to the client; clear it if the client fails."""
        row = await table.ask(self._pool, row, change.ask, actor, correlation_id)
        if row.client_item is None:
            return row  # `initiate` removes it once the client has added it
        try:
            await change.send(self._sessions.client(row.client), ItemId(row.client_item))
        except (ClientRefused, ClientUnavailable, NoSuchClient) as error:
            if isinstance(error, NoSuchClient) and change.ask == "cancel":
                return row  # the client is not configured: cancel it without the client
            await table.withdraw(self._pool, row, change.ask)
            raise client_error(row.client, error) from error
        await self._statuses.look_soon(row.client)
        return row

    async def _row(self, download_id: UUID) -> DownloadRow:
        row = await table.by_id(self._pool, download_id)
        if row is None:
            raise OperationError(
                problem(404, "unknown_download", f"no download {download_id}", "id")
            )
        return row


def client_error(client: str, error: Exception) -> OperationError:
    """Return the 502 for a client that refused a request or is unavailable."""
    reason = "client_refused" if isinstance(error, ClientRefused) else "client_unavailable"
    message = f"{client}: {error}"
    return OperationError(problem(502, reason, message))


def _wrong_state(row: DownloadRow, change: _Change) -> OperationError:
    return OperationError(
        problem(
            409,
            "wrong_state",
            f"a download in state {row.state!r} cannot be {change.participle}",
            "id",
        )
    )

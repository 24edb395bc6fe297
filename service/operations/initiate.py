"""Downloads: initiated.

The row is there before the client is asked, with the id that the client will list, so that the
monitor can never mistake what mediabus adds for a stranger.
"""

import logging
from typing import Final, assert_never
from uuid import UUID

import asyncpg

from schemas.commands import SOURCES, Download, InitiateDownload
from schemas.events import DownloadFailed, DownloadInitiated
from schemas.identity import Actor, uuid7
from schemas.status import ItemId, Protocol
from service.clients.port import (
    ClientRefused,
    ClientUnavailable,
    Magnet,
    NzbFile,
    Source,
    TorrentFile,
)
from service.clients.reach import Allowed
from service.clients.sessions import NoSuchClient, Sessions
from service.clients.sources import SourceNotAllowed, SourceUnavailable, fetch, infohash
from service.downloads import table
from service.downloads.row import Ask, DownloadRow, Transition
from service.downloads.status import Statuses
from service.operations.downloads import client_said_no
from service.outbox.outbox import Outbox
from service.runtime.api import OperationError, problem
from service.runtime.database import Pool

log: Final = logging.getLogger("mediabus.operations")

INSERT: Final = """
INSERT INTO downloads (id, title, state, client, client_item, protocol, category, indexer,
                       media_item_id, asked, asked_by_type, asked_by_id,
                       asked_correlation_id, asked_at)
VALUES ($1, $2, 'initiating', $3, $4, $5, $6, $7, $8, 'initiate', $9, $10, $11, now())
"""
CANCELS: Final[frozenset[Ask | None]] = frozenset({"cancel", "cancel_with_files"})
MAX_TORRENT_BYTES: Final = 5_000_000


class Initiate:
    """The operation that begins a download."""

    def __init__(
        self,
        pool: Pool,
        outbox: Outbox,
        sessions: Sessions,
        statuses: Statuses,
        allowed: Allowed,
    ) -> None:
        self._allowed = allowed
        self._pool = pool
        self._outbox = outbox
        self._sessions = sessions
        self._statuses = statuses

    async def initiate(
        self, request: InitiateDownload, actor: Actor, correlation_id: str | None = None
    ) -> Download:
        """Hands a download to a client. 400 for what cannot be downloaded, 404 for an unknown media
        item, 409 ``duplicate_download``, 502 where the URL or the client says no: a client's no
        leaves the row as failed, with its event."""
        source = await _source(request, self._allowed)
        client = self._choose(request, source)
        row = await self._insert(request, client, source, actor, correlation_id)
        try:
            item = await self._sessions.client(client).add(
                source, title=row.title, category=row.category
            )
        except (ClientRefused, ClientUnavailable) as error:
            await self._fail(row, error, actor, correlation_id)
            raise client_said_no(client, error) from error
        await self._begin(row, item, actor, correlation_id)
        row = await self._row(row.id)
        if row.state == "cancelled" or row.asked in CANCELS:
            await self._take_back(client, item, delete_files=row.asked == "cancel_with_files")
        await self._statuses.look_soon(client)
        return row.shown()

    async def _take_back(self, client: str, item: ItemId, *, delete_files: bool) -> None:
        """Cancelled while its client was asked to add it: there was nothing to be removed yet."""
        try:
            await self._sessions.client(client).remove(item, delete_files=delete_files)
        except (ClientRefused, ClientUnavailable) as error:
            log.warning("a cancelled download stays in its client: %s", error)

    def _choose(self, request: InitiateDownload, source: Source) -> str:
        """The client that takes it."""
        protocol = _protocol(source)
        if request.protocol not in {None, protocol}:
            raise _invalid("protocol", f"this is for {protocol}, not for {request.protocol}")
        try:
            return self._sessions.choose(request.client, protocol)
        except NoSuchClient as error:
            raise _invalid("client", str(error)) from error

    async def _insert(
        self,
        request: InitiateDownload,
        client: str,
        source: Source,
        actor: Actor,
        correlation_id: str | None,
    ) -> DownloadRow:
        download_id = uuid7()
        try:
            await self._pool.execute(
                INSERT,
                download_id,
                request.title,
                client,
                _item(source),
                _protocol(source),
                request.category or self._sessions.category(client),
                request.indexer,
                request.media_item_id,
                actor.type,
                actor.id,
                correlation_id,
            )
        except asyncpg.UniqueViolationError as error:
            raise _duplicate(error, request, client) from error
        except asyncpg.ForeignKeyViolationError as error:
            raise _unknown_media_item(request.media_item_id) from error
        return await self._row(download_id)

    async def _begin(
        self, row: DownloadRow, item: ItemId, actor: Actor, correlation_id: str | None
    ) -> None:
        """Tells that the client has it, unless the monitor was first to see it; even where the
        monitor took it for given up, as after a jump of the database's clock."""
        while row.state == "initiating" or row.is_given_up:
            event = DownloadInitiated(**row.facts(client_item=item))
            told = row.says(event, actor, correlation_id)
            begun = Transition("active", (told,), client_item=item)
            if await table.step(self._outbox, row, begun):
                return
            row = await self._row(row.id)

    async def _fail(
        self, row: DownloadRow, error: Exception, actor: Actor, correlation_id: str | None
    ) -> None:
        reason: Final = "rejected" if isinstance(error, ClientRefused) else "client_error"
        event = DownloadFailed(**row.facts(), reason=reason, error_message=str(error))
        told = row.says(event, actor, correlation_id)
        transition = Transition("failed", (told,), reason=reason, error_message=str(error))
        await table.step(self._outbox, row, transition)

    async def _row(self, download_id: UUID) -> DownloadRow:
        row = await table.by_id(self._pool, download_id)
        if row is None:  # nobody deletes downloads
            raise RuntimeError(f"download {download_id} vanished")
        return row


async def _source(request: InitiateDownload, allowed: Allowed) -> Source:
    """What the request wants downloaded, looked through."""
    match request:
        case InitiateDownload(magnet=str(uri)):
            return _checked("magnet", Magnet(uri))
        case InitiateDownload(torrent=bytes(content)):
            return _checked("torrent", TorrentFile(content))
        case InitiateDownload(nzb=bytes(content)):
            return NzbFile(content, request.title)
        case _:
            return _checked("url", await _fetched(request.url or "", allowed))


def _checked(field: str, source: Source) -> Source:
    if isinstance(source, TorrentFile) and len(source.content) > MAX_TORRENT_BYTES:
        raise _invalid(field, f"a torrent file may have {MAX_TORRENT_BYTES} bytes")
    try:
        _item(source)
    except ValueError as error:
        raise _invalid(field, str(error)) from error
    return source


async def _fetched(url: str, allowed: Allowed) -> Source:
    try:
        return await fetch(url, allowed)
    except SourceNotAllowed as error:
        raise OperationError(problem(400, "url_not_allowed", str(error), "url")) from error
    except SourceUnavailable as error:
        raise OperationError(problem(502, "source_unavailable", str(error), "url")) from error


def _protocol(source: Source) -> Protocol:
    return "usenet" if isinstance(source, NzbFile) else "torrent"


def _item(source: Source) -> ItemId | None:
    """The id under which a client will list it, where that can be known before."""
    match source:
        case Magnet() | TorrentFile():
            return infohash(source)
        case NzbFile():
            return None
        case _:
            assert_never(source)


def _invalid(field: str, message: str) -> OperationError:
    return OperationError(problem(400, "invalid_request", message, field))


def _duplicate(
    error: asyncpg.UniqueViolationError, request: InitiateDownload, client: str
) -> OperationError:
    if error.constraint_name == "downloads_one_active_per_media_item":
        what = f"media item {request.media_item_id} is being downloaded already"
        field = "media_item_id"
    else:
        what = f"{client} has this download already"
        field = next(name for name in SOURCES if getattr(request, name) is not None)
    return OperationError(problem(409, "duplicate_download", f"{what}: cancel it first", field))


def _unknown_media_item(media_item_id: UUID | None) -> OperationError:
    return OperationError(
        problem(404, "unknown_media_item", f"no media item {media_item_id}", "media_item_id")
    )

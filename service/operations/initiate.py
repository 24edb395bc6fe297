"""Initiate downloads.

The row is inserted before the client is called, with the id under which the client will list the
download. So the monitor never takes a download that mediabus adds for an untracked one.
"""

import dataclasses
import logging
from typing import Final, Self, assert_never
from uuid import UUID

import asyncpg

from mediabus.runtime.api.serve import OperationError, problem
from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.url_policy import Allowed
from mediabus.schemas.events import DownloadFailed, DownloadInitiated
from mediabus.schemas.identity import Actor, uuid7
from mediabus.schemas.operations.requests import SOURCES, Download, InitiateDownload
from mediabus.schemas.status import ItemId, Protocol
from mediabus.service.clients.port import (
    ClientRefused,
    ClientUnavailable,
    Magnet,
    NzbFile,
    Source,
    TorrentFile,
)
from mediabus.service.clients.sessions import NoSuchClient, Sessions
from mediabus.service.clients.sources import SourceNotAllowed, SourceUnavailable, infohash
from mediabus.service.downloads import table
from mediabus.service.downloads.bucket import Statuses
from mediabus.service.downloads.row import Ask, DownloadRow, NewDownload, Transition
from mediabus.service.operations.downloads import client_error
from mediabus.service.operations.fetching import Fetches
from mediabus.service.operations.idempotency import Claim, in_progress
from mediabus.service.outbox.outbox import Outbox

log: Final = logging.getLogger("mediabus.operations")

CANCELS: Final[frozenset[Ask | None]] = frozenset({"cancel", "cancel_with_files"})
MAX_TORRENT_BYTES: Final = 5_000_000
"""Bytes of a torrent file: what fits in a request in base64. The limit applies to URLs, too."""


@dataclasses.dataclass(frozen=True)
class Urls:
    """Fetches URLs. ``allowed`` names the private hosts and networks they may lead to."""

    fetches: Fetches
    allowed: Allowed


class Initiate:
    """The operation `downloads.initiate`."""

    def __init__(
        self,
        pool: Pool,
        outbox: Outbox,
        sessions: Sessions,
        statuses: Statuses,
        urls: Urls,
    ) -> None:
        self._urls = urls
        self._pool = pool
        self._outbox = outbox
        self._sessions = sessions
        self._statuses = statuses

    def using(self, outbox: Outbox) -> Self:
        """Return the same operation with another outbox."""
        return type(self)(self._pool, outbox, self._sessions, self._statuses, self._urls)

    async def resume(self, claim: Claim) -> Download | None:
        """Return the download of an interrupted request with the same key.

        Returns:
            The download, or None if the request had not inserted it.

        Raises:
            OperationError: 409 ``in_progress`` if the client may have the download, or the error
                with which the first request would have ended.
        """
        row = await table.by_id(self._pool, claim.subject)
        if row is None:
            return None
        if row.state == "initiating":  # the client may have it: the monitor decides
            raise in_progress(claim.key)
        if row.state == "failed":
            reason = "client_refused" if row.reason == "rejected" else "client_unavailable"
            message = f"{row.client}: {row.error_message}"
            raise OperationError(problem(502, reason, message))
        return row.shown()

    async def initiate(
        self,
        request: InitiateDownload,
        actor: Actor,
        correlation_id: str | None = None,
        claim: Claim | None = None,
    ) -> Download:
        """Add a download to a client.

        Raises:
            OperationError: 400 if the source is invalid, 404 if the media item is unknown, 409
                ``duplicate_download``, or 502 if the URL or the client fails. If the client fails,
                the download is stored as failed, with its event.
        """
        source = await _source(request, self._urls)
        client = self._choose(request, source)
        row = await self._insert(
            request,
            client=client,
            source=source,
            actor=actor,
            correlation_id=correlation_id,
            claim=claim,
        )
        item = await self._hand_over(row, source, actor, correlation_id)
        await self._record_start(row, item, actor, correlation_id)
        row = await self._row(row.id)
        if row.state == "cancelled" or row.asked in CANCELS:
            await self._remove_cancelled(row, item)
        await self._statuses.look_soon(client)
        return row.shown()

    async def _hand_over(
        self, row: DownloadRow, source: Source, actor: Actor, correlation_id: str | None
    ) -> ItemId:
        """Add the download to its client. If that fails, record it and raise OperationError."""
        client = self._sessions.client(row.client)
        try:
            return await client.add(source, title=row.title, category=row.category)
        except (ClientRefused, ClientUnavailable) as error:
            await self._record_failure(row, error, actor, correlation_id)
            raise client_error(row.client, error) from error

    async def _remove_cancelled(self, row: DownloadRow, item: ItemId) -> None:
        """Remove a download that was cancelled before its client had added it."""
        delete_files = row.asked == "cancel_with_files"
        try:
            await self._sessions.client(row.client).remove(item, delete_files=delete_files)
        except (ClientRefused, ClientUnavailable) as error:
            log.warning(
                "cancelled download not removed from its client",
                extra={"client": row.client, "error": str(error)},
            )

    def _choose(self, request: InitiateDownload, source: Source) -> str:
        """Choose the client that gets the download."""
        protocol = _protocol(source)
        if request.protocol not in {None, protocol}:
            raise _invalid("protocol", f"the source is for {protocol}, not for {request.protocol}")
        try:
            return self._sessions.choose(request.client, protocol)
        except NoSuchClient as error:
            raise _invalid("client", str(error)) from error

    async def _insert(
        self,
        request: InitiateDownload,
        *,
        client: str,
        source: Source,
        actor: Actor,
        correlation_id: str | None,
        claim: Claim | None,
    ) -> DownloadRow:
        """Insert the download. The claim, if any, notes that in the same transaction."""
        new = NewDownload(
            id=claim.subject if claim else uuid7(),
            title=request.title,
            client=client,
            client_item=_item(source),
            protocol=_protocol(source),
            category=request.category or self._sessions.category(client),
            indexer=request.indexer,
            media_item_id=request.media_item_id,
        )
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                row = await table.insert(connection, new, actor, correlation_id)
                if claim:
                    await claim.note_change(connection)
        except asyncpg.UniqueViolationError as error:
            raise _duplicate(error, request, client) from error
        except asyncpg.ForeignKeyViolationError as error:
            raise _unknown_media_item(request.media_item_id) from error
        return row

    async def _record_start(
        self, row: DownloadRow, item: ItemId, actor: Actor, correlation_id: str | None
    ) -> None:
        """Record that the client has the download, unless the monitor has recorded it.

        Does so even if the monitor has given it up, as after a jump of the database's clock.
        """
        expected = row.client_item
        while row.state == "initiating" or row.is_given_up:
            if row.client_item != expected:  # the monitor has learned a newer id
                item = ItemId(row.client_item or item)
            event = DownloadInitiated(**row.facts(client_item=item))
            fact = row.fact(event, actor, correlation_id)
            initiated = Transition("active", (fact,), client_item=item)
            if await table.step(self._outbox, row, initiated):
                return
            row = await self._row(row.id)

    async def _record_failure(
        self, row: DownloadRow, error: Exception, actor: Actor, correlation_id: str | None
    ) -> None:
        reason: Final = "rejected" if isinstance(error, ClientRefused) else "client_error"
        event = DownloadFailed(**row.facts(), reason=reason, error_message=str(error))
        fact = row.fact(event, actor, correlation_id)
        transition = Transition("failed", (fact,), reason=reason, error_message=str(error))
        await table.step(self._outbox, row, transition)

    async def _row(self, download_id: UUID) -> DownloadRow:
        row = await table.by_id(self._pool, download_id)
        if row is None:  # mediabus never deletes downloads
            raise RuntimeError(f"the row of download {download_id} was deleted")
        return row


async def _source(request: InitiateDownload, urls: Urls) -> Source:
    """Return the source that the request names, checked."""
    match request:
        case InitiateDownload(magnet=str(uri)):
            return _checked("magnet", Magnet(uri))
        case InitiateDownload(torrent=bytes(content)):
            return await urls.fetches.run(_checked, "torrent", TorrentFile(content))
        case InitiateDownload(nzb=bytes(content)):
            return NzbFile(content, request.title)
        case _:
            fetched = await _fetched(request.url or "", urls)
            return await urls.fetches.run(_checked, "url", fetched)


def _checked(field: str, source: Source) -> Source:
    if isinstance(source, TorrentFile) and len(source.content) > MAX_TORRENT_BYTES:
        raise _invalid(
            field,
            f"the torrent file has {len(source.content)} bytes; the limit is {MAX_TORRENT_BYTES}",
        )
    try:
        _item(source)
    except ValueError as error:
        raise _invalid(field, str(error)) from error
    return source


async def _fetched(url: str, urls: Urls) -> Source:
    try:
        return await urls.fetches.fetch(url, urls.allowed)
    except SourceNotAllowed as error:
        raise OperationError(problem(400, "url_not_allowed", str(error), "url")) from error
    except SourceUnavailable as error:
        raise OperationError(problem(502, "source_unavailable", str(error), "url")) from error


def _protocol(source: Source) -> Protocol:
    return "usenet" if isinstance(source, NzbFile) else "torrent"


def _item(source: Source) -> ItemId | None:
    """Return the id under which a client will list the source; None if only the client knows."""
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
        message = f"media item {request.media_item_id} is already being downloaded"
        field = "media_item_id"
    else:
        message = f"{client} already has this download"
        field = next(name for name in SOURCES if getattr(request, name) is not None)
    return OperationError(problem(409, "duplicate_download", f"{message}: cancel it first", field))


def _unknown_media_item(media_item_id: UUID | None) -> OperationError:
    return OperationError(
        problem(404, "unknown_media_item", f"no media item {media_item_id}", "media_item_id")
    )

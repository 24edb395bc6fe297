"""Serve the operations over NATS: one endpoint per subject."""

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import msgspec

from mediabus.runtime.api.requests import MAX_REQUEST_BYTES
from mediabus.runtime.api.serve import Endpoint, Headers, Reply, endpoint, key_of, serving
from mediabus.runtime.nats.bus import Bus
from mediabus.schemas.identity import Actor
from mediabus.schemas.operations.requests import (
    CORRELATION_HEADER,
    CancelDownload,
    CreateMedia,
    DeleteMedia,
    Download,
    DownloadById,
    GetById,
    InitiateDownload,
    ListDownloads,
    ListMedia,
    MediaItem,
    Page,
    Request,
    SetMonitored,
    UpdateMedia,
)
from mediabus.service.operations.downloads import Downloads
from mediabus.service.operations.idempotency import Claim, Requests, claim_of
from mediabus.service.operations.initiate import Initiate
from mediabus.service.operations.media import Media
from mediabus.service.operations.open import Operations
from mediabus.service.outbox.outbox import Outbox
from mediabus.service.outbox.relay_state import RELAY

MAX_MEDIA_BYTES = 256 * 1024
"""Bytes of a request with metadata: the old and the new metadata together must fit in an event."""

MAX_INITIATE_BYTES = 7 * 1024 * 1024
"""Bytes of a request: a torrent file of 5 MB in base64, and the other fields."""

SLOW_PLACES = 128
"""Requests on one subject that may wait for download clients at the same time."""

RequestT = TypeVar("RequestT", bound=Request)
ByIdT = TypeVar("ByIdT", CancelDownload, DownloadById)


@contextlib.asynccontextmanager
async def serve_operations(bus: Bus, operations: Operations) -> AsyncIterator[None]:
    """Serve the NATS micro services ``mediabus-media`` and ``mediabus-downloads``."""
    async with (
        serving(
            bus,
            name="mediabus-media",
            description="Movies and TV shows of the library",
            statistics=RELAY.as_json,
            endpoints=media_endpoints(operations.media, operations.requests),
        ),
        serving(
            bus,
            name="mediabus-downloads",
            description="Downloads and their clients",
            endpoints=download_endpoints(
                operations.downloads, operations.initiate, operations.requests
            ),
        ),
    ):
        yield


def media_endpoints(media: Media, requests: Requests) -> list[Endpoint]:
    """Return the endpoints of the subjects ``media.*``."""

    async def get(request: GetById, _: Actor, __: Headers) -> MediaItem:
        return await media.get(request.id)

    async def list_page(request: ListMedia, _: Actor, __: Headers) -> Page[MediaItem]:
        return await media.list(request)

    change = _MediaChanges(media, requests).endpoint
    return [
        change("media.create", CreateMedia, Media.create, max_bytes=MAX_MEDIA_BYTES),
        change("media.update", UpdateMedia, Media.update, max_bytes=MAX_MEDIA_BYTES),
        change("media.delete", DeleteMedia, Media.delete),
        change("media.set_monitored", SetMonitored, Media.set_monitored),
        endpoint("media.get", GetById, get),
        endpoint("media.list", ListMedia, list_page),
    ]


def download_endpoints(
    downloads: Downloads, initiate: Initiate, requests: Requests
) -> list[Endpoint]:
    """Return the endpoints of the subjects ``downloads.*``."""

    async def get(request: GetById, _: Actor, __: Headers) -> Download:
        return await downloads.get(request.id)

    async def list_page(request: ListDownloads, _: Actor, __: Headers) -> Page[Download]:
        return await downloads.list(request)

    change = _DownloadChanges(downloads, requests).endpoint
    return [
        _initiate_endpoint(initiate, requests),
        change("downloads.cancel", CancelDownload, Downloads.cancel),
        change("downloads.pause", DownloadById, Downloads.pause),
        change("downloads.resume", DownloadById, Downloads.resume),
        endpoint("downloads.get", GetById, get),
        endpoint("downloads.list", ListDownloads, list_page),
    ]


@dataclasses.dataclass(frozen=True)
class _MediaChanges:
    """Endpoints that change media items.

    Their events carry the caller's correlation id. A request with an idempotency key is done once.
    """

    media: Media
    requests: Requests

    def endpoint(
        self,
        subject: str,
        request_type: type[RequestT],
        operation: Callable[[Media, RequestT, Actor, str | None], Awaitable[msgspec.Struct]],
        *,
        max_bytes: int = MAX_REQUEST_BYTES,
    ) -> Endpoint:
        async def handle(request: RequestT, actor: Actor, headers: Headers) -> Reply:
            correlation_id, key = headers.get(CORRELATION_HEADER), key_of(headers)
            if key is None:
                return await operation(self.media, request, actor, correlation_id)
            return await self.requests.in_one_transaction(
                claim_of(key, subject, actor, request),
                lambda outbox: operation(self.media.using(outbox), request, actor, correlation_id),
            )

        return endpoint(subject, request_type, handle, max_bytes=max_bytes)


@dataclasses.dataclass(frozen=True)
class _DownloadChanges:
    """Endpoints that change downloads. Clients are called outside the transaction."""

    downloads: Downloads
    requests: Requests

    def endpoint(
        self,
        subject: str,
        request_type: type[ByIdT],
        operation: Callable[[Downloads, ByIdT, Actor, str | None], Awaitable[Download]],
    ) -> Endpoint:
        async def handle(request: ByIdT, actor: Actor, headers: Headers) -> Reply:
            correlation_id, key = headers.get(CORRELATION_HEADER), key_of(headers)
            if key is None:
                return await operation(self.downloads, request, actor, correlation_id)

            async def run_once(claim: Claim, outbox: Outbox) -> Download:
                if claim.changed:
                    return await self.downloads.get(request.id)
                downloads = self.downloads.using(outbox)
                return await operation(downloads, request, actor, correlation_id)

            return await self.requests.in_steps(claim_of(key, subject, actor, request), run_once)

        return endpoint(subject, request_type, handle, places=SLOW_PLACES)


def _initiate_endpoint(initiate: Initiate, requests: Requests) -> Endpoint:
    subject = "downloads.initiate"

    async def handle(request: InitiateDownload, actor: Actor, headers: Headers) -> Reply:
        correlation_id, key = headers.get(CORRELATION_HEADER), key_of(headers)
        if key is None:
            return await initiate.initiate(request, actor, correlation_id)

        async def run_once(claim: Claim, outbox: Outbox) -> Download:
            if claim.resumed and (download := await initiate.resume(claim)):
                return download
            return await initiate.using(outbox).initiate(request, actor, correlation_id, claim)

        return await requests.in_steps(claim_of(key, subject, actor, request), run_once)

    return endpoint(
        subject, InitiateDownload, handle, max_bytes=MAX_INITIATE_BYTES, places=SLOW_PLACES
    )

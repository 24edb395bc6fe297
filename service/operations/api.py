"""The operations over NATS: which subject leads to which function."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import msgspec

from schemas.commands import (
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
from schemas.identity import Actor
from service.operations.downloads import Downloads
from service.operations.initiate import Initiate
from service.operations.media import Media
from service.operations.open import Operations
from service.runtime.api import Endpoint, Handle, Headers, endpoint, serving
from service.runtime.bus import Bus

MAX_MEDIA_BYTES = 256 * 1024
"""Old and new metadata together must fit an event."""

MAX_INITIATE_BYTES = 7 * 1024 * 1024
"""A torrent file of 5 MB in base64, and what is beside it."""

RequestT = TypeVar("RequestT", bound=Request)
ReplyT = TypeVar("ReplyT", bound=msgspec.Struct)
Operation = Callable[[RequestT, Actor, str | None], Awaitable[ReplyT]]


@contextlib.asynccontextmanager
async def serve_operations(bus: Bus, operations: Operations) -> AsyncIterator[None]:
    """Answers requests as the NATS micro services ``mediabus-media`` and ``mediabus-downloads``."""
    async with (
        serving(
            bus,
            name="mediabus-media",
            description="Movies and TV shows of the library",
            endpoints=media_endpoints(operations.media),
        ),
        serving(
            bus,
            name="mediabus-downloads",
            description="Downloads and their clients",
            endpoints=download_endpoints(operations.downloads, operations.initiate),
        ),
    ):
        yield


def media_endpoints(media: Media) -> list[Endpoint]:
    """The subjects ``media.*``."""

    async def get(request: GetById, _: Actor, __: Headers) -> MediaItem:
        return await media.get(request.id)

    async def listed(request: ListMedia, _: Actor, __: Headers) -> Page[MediaItem]:
        return await media.list(request)

    most = MAX_MEDIA_BYTES
    return [
        endpoint("media.create", CreateMedia, _told(media.create), max_bytes=most),
        endpoint("media.update", UpdateMedia, _told(media.update), max_bytes=most),
        endpoint("media.delete", DeleteMedia, _told(media.delete)),
        endpoint("media.set_monitored", SetMonitored, _told(media.set_monitored)),
        endpoint("media.get", GetById, get),
        endpoint("media.list", ListMedia, listed),
    ]


def download_endpoints(downloads: Downloads, initiate: Initiate) -> list[Endpoint]:
    """The subjects ``downloads.*``."""

    async def get(request: GetById, _: Actor, __: Headers) -> Download:
        return await downloads.get(request.id)

    async def listed(request: ListDownloads, _: Actor, __: Headers) -> Page[Download]:
        return await downloads.list(request)

    most = MAX_INITIATE_BYTES
    return [
        endpoint("downloads.initiate", InitiateDownload, _told(initiate.initiate), max_bytes=most),
        endpoint("downloads.cancel", CancelDownload, _told(downloads.cancel)),
        endpoint("downloads.pause", DownloadById, _told(downloads.pause)),
        endpoint("downloads.resume", DownloadById, _told(downloads.resume)),
        endpoint("downloads.get", GetById, get),
        endpoint("downloads.list", ListDownloads, listed),
    ]


def _told(operation: Operation[RequestT, ReplyT]) -> Handle[RequestT]:
    """An operation whose event carries the caller's correlation id."""

    async def handle(request: RequestT, actor: Actor, headers: Headers) -> ReplyT:
        return await operation(request, actor, headers.get(CORRELATION_HEADER))

    return handle

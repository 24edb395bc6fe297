"""Wrap every client session so that a call ends in time and raises only the port's exceptions.

mediabus opens all sessions through ``guarded``. Malformed or oversized answers of a client become
``ClientUnavailable``; a single unusable download is skipped.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Iterable
from typing import Final, TypeVar, assert_never

from mediabus.runtime import metrics, tracing
from mediabus.runtime.redact import without_secrets
from mediabus.schemas.status import DownloadStatus, ItemId
from mediabus.service.clients.limits import MAX_DOWNLOADS, MAX_MESSAGE_LENGTH, LimitExceeded, cut
from mediabus.service.clients.port import (
    ClientRefused,
    ClientUnavailable,
    Delta,
    DownloadClient,
    Observation,
    Snapshot,
    Source,
)
from mediabus.service.clients.sane import is_item_id, sane, sane_id
from mediabus.service.clients.settings import ClientSettings

log: Final = logging.getLogger("mediabus.clients")

T = TypeVar("T")

TIMEOUTS: Final = 4
"""The deadline of one call, in multiples of the client's ``timeout``, which is for one request."""

MAX_VERSION_LENGTH: Final = 100
"""Characters of a client's version."""

MAX_REPORTED: Final = 1_000
"""Skipped downloads that are logged; later ones are only counted."""


@contextlib.asynccontextmanager
async def guarded(settings: ClientSettings) -> AsyncIterator[DownloadClient]:
    """Open a guarded session with the client of these settings."""
    async with settings.connect() as client:
        yield Guarded(client, settings)


class Guarded:
    """A session with a deadline and limits.

    Any unexpected exception of an adapter becomes ``ClientUnavailable("protocol")``. A download
    that cannot be stored is omitted from observations, counted, and logged once.
    """

    def __init__(self, client: DownloadClient, settings: ClientSettings) -> None:
        self._client = client
        self._name = settings.name
        self._kind = str(type(settings).__struct_config__.tag)
        self._deadline = TIMEOUTS * settings.timeout
        self._reported: set[str] = set()

    async def version(self) -> str:
        return cut(str(await self._call(self._client.version())), MAX_VERSION_LENGTH)

    async def observe(self) -> Observation:
        with tracing.poll(self._name, self._kind) as span:
            try:
                return await self._call(self._observe())
            except ClientUnavailable as error:
                span.note("mediabus.client.reason", error.reason)
                raise

    async def _observe(self) -> Observation:
        match await self._client.observe():
            case Snapshot(items, restarted, warning):
                return Snapshot(self._usable(items), restarted, _shortened(warning))
            case Delta(changed, removed):
                return Delta(self._usable(changed), [item for item in removed if is_item_id(item)])
            case other:
                assert_never(other)

    def _usable(self, statuses: Iterable[DownloadStatus]) -> list[DownloadStatus]:
        listed = list(statuses)
        if len(listed) > MAX_DOWNLOADS:
            raise LimitExceeded(
                f"it lists {len(listed)} downloads; the limit is {MAX_DOWNLOADS}. "
                "Remove finished downloads from the client"
            )
        usable = []
        for status in listed:
            try:
                usable.append(sane(status))
            except (ValueError, TypeError) as error:
                self._skip(str(status.item)[:100], error)
        return usable

    def _skip(self, item: str, error: Exception) -> None:
        metrics.DOWNLOADS_SKIPPED.labels(self._name).inc()
        if item in self._reported or len(self._reported) >= MAX_REPORTED:
            return
        self._reported.add(item)
        fields = {"client": self._name, "item": repr(item), "reason": str(error)}
        log.warning("download skipped", extra=fields)

    async def add(self, source: Source, *, title: str, category: str | None) -> ItemId:
        return await self._call(self._add(source, title=title, category=category))

    async def _add(self, source: Source, *, title: str, category: str | None) -> ItemId:
        return sane_id(await self._client.add(source, title=title, category=category))

    async def pause(self, item: ItemId) -> None:
        await self._call(self._client.pause(item))

    async def resume(self, item: ItemId) -> None:
        await self._call(self._client.resume(item))

    async def remove(self, item: ItemId, *, delete_files: bool) -> None:
        await self._call(self._client.remove(item, delete_files=delete_files))

    async def _call(self, answer: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._deadline):
                return await answer
        except (ClientUnavailable, ClientRefused):
            raise
        except TimeoutError as error:
            message = f"{self._name} did not answer within {self._deadline:g} s"
            raise ClientUnavailable("connection", message) from error
        except asyncio.CancelledError as error:
            if (task := asyncio.current_task()) and task.cancelling():
                raise
            message = f"the call to {self._name} was cancelled by a library"
            raise ClientUnavailable("protocol", message) from error
        except Exception as error:
            message = f"{self._name} sent an answer that cannot be read: {words_of(error)}"
            raise ClientUnavailable("protocol", message) from error


def _shortened(text: str | None) -> str | None:
    """Shorten a client's warning and remove keys from it."""
    return without_secrets(cut(text, MAX_MESSAGE_LENGTH)) if text else None


def words_of(error: Exception) -> str:
    """Describe an exception on one line, also one without a message."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

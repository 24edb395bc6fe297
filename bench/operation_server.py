"""Serve two operations that add a media item: as in mediabus, and without its event.

    python -m bench.operation_server    the settings are mediabus' own variables

No relay runs: this measures the cost of recording an event.
"""

import asyncio
import contextlib
from collections.abc import Iterable

import asyncpg
import uvloop

from mediabus.runtime.api.serve import Endpoint, Headers, endpoint, serving
from mediabus.runtime.nats.bus import connect
from mediabus.runtime.postgres.database import open_pool
from mediabus.runtime.settings_file import load
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.identity import Actor
from mediabus.schemas.operations.requests import CreateMedia, MediaItem
from mediabus.service.operations.media import Media
from mediabus.service.outbox.fallback import DirectPublisher
from mediabus.service.outbox.outbox import Outbox, open_outbox

WITH_EVENT = "bench.with_event"
WITHOUT_EVENT = "bench.without_event"

CREATE = """
INSERT INTO media_items (id, type, title, original_title, year, tmdb_id, imdb_id, metadata,
                         monitored)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING *
"""


class NoOutbox(Outbox):
    """An outbox that makes the change and records no event."""

    async def perform(
        self, statement: str, *args: object, events: Iterable[Envelope]
    ) -> list[asyncpg.Record]:
        return await self._pool.fetch(CREATE, *args)


def _endpoint(subject: str, media: Media) -> Endpoint:
    async def create(request: CreateMedia, actor: Actor, _: Headers) -> MediaItem:
        return await media.create(request, actor)

    return endpoint(subject, CreateMedia, create)


async def main() -> None:
    """Serve until cancelled."""
    settings = load(None)
    async with contextlib.AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(settings.database))
        bus = await stack.enter_async_context(connect(settings.nats, name="bench operations"))
        outbox = await stack.enter_async_context(open_outbox(pool, bus))
        silent = NoOutbox(pool, bus, DirectPublisher())
        endpoints = [
            _endpoint(WITH_EVENT, Media(pool, outbox)),
            _endpoint(WITHOUT_EVENT, Media(pool, silent)),
        ]
        await stack.enter_async_context(
            serving(bus, name="bench", description="Operations, measured", endpoints=endpoints)
        )
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())

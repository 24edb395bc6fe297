"""Open all operations, to be called as Python functions."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Sequence

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.url_policy import Allowed
from mediabus.service.clients import AnyClientSettings
from mediabus.service.clients.sessions import OpenSessions, open_sessions
from mediabus.service.downloads.bucket import Statuses
from mediabus.service.operations.downloads import Downloads
from mediabus.service.operations.fetching import open_fetches
from mediabus.service.operations.idempotency import Requests
from mediabus.service.operations.initiate import Initiate, Urls
from mediabus.service.operations.media import Media
from mediabus.service.outbox.outbox import open_outbox


@dataclasses.dataclass(frozen=True)
class Operations:
    """All operations of the service."""

    media: Media
    downloads: Downloads
    initiate: Initiate
    requests: Requests
    sessions: OpenSessions


@contextlib.asynccontextmanager
async def open_operations(
    pool: Pool,
    bus: Bus,
    clients: Sequence[AnyClientSettings] = (),
    allowed: Allowed = Allowed(),  # noqa: B008 - it is frozen
) -> AsyncIterator[Operations]:
    """Open the operations on an open pool and bus.

    NATS and the clients may be unreachable. ``allowed`` names the private hosts
    and networks that URLs may lead to, in addition to the internet.
    """
    async with (
        open_outbox(pool, bus) as outbox,
        open_sessions(clients) as sessions,
        open_fetches() as fetches,
    ):
        statuses = Statuses(bus)
        requests = Requests(pool, outbox)
        cleaning = asyncio.create_task(requests.clean(), name="idempotency keys")
        try:
            yield Operations(
                Media(pool, outbox),
                Downloads(pool, outbox, sessions, statuses),
                Initiate(pool, outbox, sessions, statuses, Urls(fetches, allowed)),
                requests,
                sessions,
            )
        finally:
            cleaning.cancel()

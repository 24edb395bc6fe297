"""All operations, ready to be called as Python functions."""

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Sequence

from service.clients import AnyClientSettings
from service.clients.reach import Allowed
from service.clients.sessions import open_sessions
from service.downloads.status import Statuses
from service.operations.downloads import Downloads
from service.operations.initiate import Initiate
from service.operations.media import Media
from service.outbox.outbox import open_outbox
from service.runtime.bus import Bus
from service.runtime.database import Pool


@dataclasses.dataclass(frozen=True)
class Operations:
    """What users do."""

    media: Media
    downloads: Downloads
    initiate: Initiate


@contextlib.asynccontextmanager
async def open_operations(
    pool: Pool,
    bus: Bus,
    clients: Sequence[AnyClientSettings] = (),
    allowed: Allowed = Allowed(),  # noqa: B008 - it is frozen
) -> AsyncIterator[Operations]:
    """The operations on an open pool and bus. Neither NATS nor a client needs to answer.
    ``allowed`` is where URLs may lead beside the internet."""
    async with open_outbox(pool, bus) as outbox, open_sessions(clients) as sessions:
        statuses = Statuses(bus)
        yield Operations(
            Media(pool, outbox),
            Downloads(pool, outbox, sessions, statuses),
            Initiate(pool, outbox, sessions, statuses, allowed),
        )

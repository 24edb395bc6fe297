"""Purge the bucket of clients that no monitor watches: renamed, disabled or removed ones."""

import asyncio
import logging
from collections.abc import Collection
from typing import Final

from nats.errors import Error as NatsError
from nats.js.errors import APIError

from mediabus.runtime.error_text import error_text
from mediabus.runtime.nats.bus import Bus
from mediabus.service.downloads import bucket

log: Final = logging.getLogger("mediabus.monitor")


async def purge_unwatched(bus: Bus, watched: Collection[str]) -> None:
    """Purge all clients but these, as soon as NATS is available.

    No deletion markers are left: a later monitor of the same client would take them for removals.
    """
    while True:
        try:
            await _purge(bus, watched)
        except (APIError, NatsError, TimeoutError) as error:
            log.info("waiting for NATS", extra={"reason": error_text(error)})
            await asyncio.sleep(0.5)
        else:
            return


async def _purge(bus: Bus, watched: Collection[str]) -> None:
    for name in await bucket.client_names(bus):
        if name not in watched:
            log.info("client is no longer watched, purging its statuses", extra={"client": name})
            await bucket.purge(bus, name)

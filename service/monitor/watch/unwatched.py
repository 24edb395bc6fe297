"""What the bucket still shows of clients that nobody watches: renamed, disabled or removed ones."""

import asyncio
import logging
from collections.abc import Collection
from typing import Final

from nats.errors import Error as NatsError
from nats.js.errors import APIError

from schemas.subjects import DOWNLOAD_STATUS_BUCKET, DOWNLOAD_STATUS_STREAM
from service.runtime.bus import Bus

log: Final = logging.getLogger("mediabus.monitor")

SUBJECT: Final = f"$KV.{DOWNLOAD_STATUS_BUCKET}."


async def stop_showing_unwatched(bus: Bus, watched: Collection[str]) -> None:
    """Clears the bucket of all clients but these, once NATS lets it. No marks of deletion are left:
    to a monitor of the same client later on they would be removals."""
    while True:
        try:
            await _clear(bus, watched)
        except (APIError, NatsError, TimeoutError) as error:
            log.info("waiting for NATS", extra={"reason": str(error) or type(error).__name__})
            await asyncio.sleep(0.5)
        else:
            return


async def _clear(bus: Bus, watched: Collection[str]) -> None:
    shown = (
        await bus.js.stream_info(DOWNLOAD_STATUS_STREAM, subjects_filter=f"{SUBJECT}*")
    ).state.subjects
    for subject in shown or {}:
        name = subject.removeprefix(SUBJECT)
        if name not in watched:
            log.info("client is not watched any more", extra={"client": name})
            await bus.js.purge_stream(DOWNLOAD_STATUS_STREAM, subject=f"{subject}.*")
            await bus.js.purge_stream(DOWNLOAD_STATUS_STREAM, subject=subject)

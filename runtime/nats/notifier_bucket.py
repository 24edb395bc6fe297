"""The bucket with what the notifier remembers of its targets. Only who has targets needs it."""

import asyncio
import logging
from typing import Final

from nats.errors import Error as NatsError
from nats.js.api import KeyValueConfig, StorageType
from nats.js.errors import APIError, NotFoundError

from mediabus.runtime.error_text import error_text
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.settings import NatsSettings
from mediabus.schemas.subjects import NOTIFIER_BUCKET, NOTIFIER_STREAM

log: Final = logging.getLogger("mediabus.streams")

DESCRIPTION: Final = "mediabus: what the notifier remembers of its targets"
RETRY_EVERY: Final = 1.0
"""Seconds between two attempts to create the bucket, or to find it."""


async def ensure_notifier_bucket(bus: Bus, settings: NatsSettings) -> None:
    """Create the bucket, or wait until another process has created it."""
    logged = ""
    while True:
        try:
            await _ensure(bus, settings)
        except (NatsError, APIError, TimeoutError) as error:
            reason = error_text(error)
            if reason != logged:
                log.warning("notifier bucket not ready, will retry", extra={"reason": reason})
                logged = reason
            await asyncio.sleep(RETRY_EVERY)
        else:
            return


async def _ensure(bus: Bus, settings: NatsSettings) -> None:
    try:
        await bus.js.stream_info(NOTIFIER_STREAM)
    except NotFoundError:
        limit = settings.max_bytes if isinstance(settings.max_bytes, int) else -1
        config = KeyValueConfig(
            bucket=NOTIFIER_BUCKET,
            description=DESCRIPTION,
            history=1,
            storage=StorageType.FILE,
            replicas=settings.replicas,
            max_bytes=limit,
            direct=True,
        )
        await bus.js.create_key_value(config)

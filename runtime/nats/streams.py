"""The streams and the bucket of mediabus in JetStream: create and update, never recreate."""

import asyncio
import contextlib
import logging
from typing import Any, Final

from nats.errors import Error as NatsError
from nats.js.api import KeyValueConfig, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, NotFoundError
from nats.js.kv import KeyValue

from mediabus.runtime.error_text import error_text
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.client import NotAllowed
from mediabus.runtime.nats.ownership import DESCRIPTIONS, NotOurs, check_owner, mark_of
from mediabus.runtime.nats.refusals import (
    NO_JETSTREAM,
    StreamRefused,
    has_no_jetstream,
    is_final,
    with_advice,
)
from mediabus.runtime.nats.stream_configs import (
    dead_letters_stream,
    events_stream,
    limit_of,
    managed,
    replay_stream,
)
from mediabus.runtime.settings import NatsSettings
from mediabus.schemas.codec import MAX_EVENT_BYTES
from mediabus.schemas.subjects import (
    DOWNLOAD_STATUS_BUCKET,
    DOWNLOAD_STATUS_STREAM,
    REPLAY_STREAM,
)

log: Final = logging.getLogger("mediabus.streams")

NEEDS_SERVER: Final = (2, 12, 3)
"""The first version of nats-server in which atomic batches (ADR-50) work correctly."""

ROOM_FOR_HEADERS: Final = 16_384

POLL_EVERY: Final = 0.5
"""Seconds between two checks for a reconnect, after which streams may be missing."""

CHECK_EVERY: Final = 10.0
"""Seconds between two checks for deleted streams."""

TOO_FEW_SERVERS: Final = {10005, 10074}
"""JetStream's errors if there are fewer servers than replicas."""


class ServerTooOld(Exception):
    """The NATS server lacks a feature that mediabus needs."""


async def ensure_streams(bus: Bus, settings: NatsSettings, *, waits: bool = False) -> None:
    """Create the streams and the bucket, or update the existing ones.

    Waits while JetStream is not ready (a cluster without a leader, or with too few servers). If
    this user may not create streams, waits until another process has created them. With ``waits``,
    also waits instead of raising: a running process does not end because of its server.

    Raises:
        ServerTooOld: if the server lacks a feature.
        NotOurs: if a stream belongs to another program or installation.
        StreamRefused: if JetStream will always refuse a stream.
    """
    logged = ""
    while True:
        try:
            _check_version(bus)
            await _ensure_all(bus, settings)
        except (ServerTooOld, NotOurs, StreamRefused) as error:
            if not waits:
                raise
            reason, pause = str(error), CHECK_EVERY
        except (APIError, NatsError, TimeoutError) as error:
            reason, pause = _reason(error, settings), POLL_EVERY
            if has_no_jetstream(error, bus.nc.server_info):
                reason = NO_JETSTREAM
            elif not is_final(error):
                reason = f"waiting for JetStream: {reason}"
            if not (waits or reason.startswith("waiting")):
                raise StreamRefused(f"JetStream refuses a stream: {reason}") from error
        else:
            return
        if reason != logged:
            log.warning("streams not ready, will retry", extra={"reason": reason})
            logged = reason
        await asyncio.sleep(pause)


def _reason(error: Exception, settings: NatsSettings) -> str:
    if isinstance(error, APIError) and error.err_code in TOO_FEW_SERVERS:
        return (
            f"nats.replicas is {settings.replicas}, and NATS answers {error.description!r}: start "
            "a cluster of as many servers, or lower nats.replicas"
        )
    return with_advice(error)


async def _ensure_all(bus: Bus, settings: NatsSettings) -> None:
    """Create or update all streams. Check all of them first, so that an error changes nothing."""
    found = {name: await _found(bus, name) for name in DESCRIPTIONS}
    for config in found.values():
        if config is not None:
            check_owner(config, bus.installation)
            _check_shape(config)
    for wanted in (
        events_stream(settings),
        dead_letters_stream(settings),
        replay_stream(settings),
    ):
        existing = found[wanted.name or ""]
        marked = wanted.evolve(metadata=mark_of(existing or wanted, bus.installation))
        if existing is None:
            await bus.js.add_stream(marked)
        else:
            await _update(
                bus, existing, {name: getattr(marked, name) for name in managed(settings)}
            )
    await _ensure_bucket(bus, settings, found[DOWNLOAD_STATUS_STREAM])


async def _found(bus: Bus, name: str) -> StreamConfig | None:
    try:
        return (await bus.js.stream_info(name)).config
    except NotFoundError:
        return None


def _check_shape(config: StreamConfig) -> None:
    """Raise StreamRefused if a stream has a property that no update can change."""
    name = config.name
    if config.mirror or config.sources:
        raise StreamRefused(f"stream {name} is a copy of another stream: remove it")
    if config.storage == StorageType.MEMORY:
        raise StreamRefused(
            f"stream {name} is stored in memory and would be lost with the server: remove it, and "
            "mediabus creates it on disk"
        )
    wanted = RetentionPolicy.INTEREST if name == REPLAY_STREAM else RetentionPolicy.LIMITS
    if config.retention != wanted:
        raise StreamRefused(
            f"stream {name} has the retention policy {config.retention}, but mediabus needs "
            f"{wanted}: remove it, and mediabus creates it"
        )


async def keep_streams(bus: Bus, settings: NatsSettings) -> None:
    """Create missing streams, until cancelled.

    A server may come back with an empty disk, and someone may delete a stream.
    """
    clock = asyncio.get_running_loop().time
    ensured_connection = -1
    checked_at = clock()
    while True:
        connection = bus.connection
        is_due = clock() - checked_at > CHECK_EVERY
        is_new = connection != ensured_connection
        if bus.is_connected and (is_new or (is_due and await _is_any_missing(bus))):
            await ensure_streams(bus, settings, waits=True)
            ensured_connection = connection
        if is_due:
            checked_at = clock()
        await asyncio.sleep(POLL_EVERY)


async def _is_any_missing(bus: Bus) -> bool:
    """Return whether a stream certainly does not exist."""
    try:
        for name in DESCRIPTIONS:
            await bus.js.stream_info(name)
    except NotFoundError:
        return True
    except (NatsError, APIError, TimeoutError):
        return False
    return False


async def wait_for_streams(bus: Bus) -> None:
    """Wait until another process has created the streams and the bucket."""
    for name in DESCRIPTIONS:
        await _wait_for_stream(bus, name)


async def _wait_for_stream(bus: Bus, name: str) -> None:
    """Wait until a stream exists, unless this user may not know."""
    is_logged = False
    while True:
        try:
            await bus.js.stream_info(name)
        except NotAllowed:
            return
        except (NatsError, APIError, TimeoutError) as error:
            if not is_logged:
                extra = {"stream": name, "reason": error_text(error)}
                log.info("waiting for a stream, which `mediabus service` creates", extra=extra)
            is_logged = True
            await asyncio.sleep(POLL_EVERY)
        else:
            return


async def download_status(bus: Bus) -> KeyValue:
    """Return the bucket with the status of all downloads and download clients.

    The key of a download is ``<client>.<item>``, that of a client ``<client>``.
    """
    return await bus.js.key_value(DOWNLOAD_STATUS_BUCKET)


async def _ensure_bucket(bus: Bus, settings: NatsSettings, existing: StreamConfig | None) -> None:
    wanted = {"num_replicas": settings.replicas}
    if settings.max_bytes is not None:
        wanted["max_bytes"] = limit_of(settings, "download_status")
    if existing is None:
        await bus.js.create_key_value(
            KeyValueConfig(
                bucket=DOWNLOAD_STATUS_BUCKET,
                description=DESCRIPTIONS[DOWNLOAD_STATUS_STREAM],
                history=1,
                storage=StorageType.FILE,
                replicas=settings.replicas,
                max_bytes=wanted.get("max_bytes", -1),
                direct=True,
            )
        )
        existing = (await bus.js.stream_info(DOWNLOAD_STATUS_STREAM)).config  # to add the id
    await _update(bus, existing, {**wanted, "metadata": mark_of(existing, bus.installation)})


async def _update(bus: Bus, existing: StreamConfig, wanted: dict[str, Any]) -> None:
    changed = {
        name: value
        for name, value in wanted.items()
        if (value or None) != (getattr(existing, name) or None)
    }
    if changed:
        with contextlib.suppress(NotAllowed):  # `mediabus service` has the permission
            await bus.js.update_stream(existing.evolve(**changed))
            log.info("stream updated", extra={"stream": existing.name, "changed": sorted(changed)})


def _check_version(bus: Bus) -> None:
    if bus.nc.max_payload < MAX_EVENT_BYTES + ROOM_FOR_HEADERS:
        raise ServerTooOld(
            f"the NATS server's max_payload of {bus.nc.max_payload} bytes is too small: set it to "
            "1MB (the default) or more"
        )
    version = bus.nc.connected_server_version
    found = (version.major, version.minor, version.patch)
    if found < NEEDS_SERVER:
        raise ServerTooOld(
            f"nats-server {'.'.join(map(str, found))} is too old: "
            f"mediabus needs {'.'.join(map(str, NEEDS_SERVER))} or newer"
        )

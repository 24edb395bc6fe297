"""What mediabus needs in JetStream: streams and a bucket, made or adapted, never made anew."""

import asyncio
import contextlib
import logging
from typing import Any, Final

from nats.errors import Error as NatsError
from nats.js.api import DiscardPolicy, KeyValueConfig, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, BadRequestError, NotFoundError
from nats.js.kv import KeyValue

from schemas.codec import MAX_EVENT_BYTES
from schemas.subjects import (
    DEAD_LETTERS_STREAM,
    DEAD_LETTERS_SUBJECTS,
    DOWNLOAD_STATUS_BUCKET,
    DOWNLOAD_STATUS_STREAM,
    EVENTS_STREAM,
    EVENTS_SUBJECTS,
    REPLAY_STREAM,
    REPLAY_SUBJECTS,
)
from service.runtime.bus import Bus
from service.runtime.nats_client import NotAllowed
from service.runtime.settings import NatsSettings

log: Final = logging.getLogger("mediabus.streams")

NEEDS_SERVER: Final = (2, 12, 3)
"""The first server whose atomic batches (ADR-50) are sound."""

DUPLICATE_WINDOW: Final = 120.0
"""Seconds in which the server itself drops an event that is published again."""

ROOM_FOR_HEADERS: Final = 16_384

DAY: Final = 86_400.0

LOOK_EVERY: Final = 0.5
"""Seconds after a reconnect in which the streams may be missing."""

LOOK_AGAIN_EVERY: Final = 10.0
"""Seconds in which they may be missing where somebody deleted them."""

TOO_FEW_SERVERS: Final = {10005, 10074}
"""What JetStream answers where fewer servers are there than are to keep a copy."""


class ServerTooOld(Exception):
    """The NATS server lacks what mediabus relies on."""


async def ensure_streams(bus: Bus, settings: NatsSettings) -> None:
    """Makes the streams and the bucket, or adapts what is there; waits while JetStream is not
    ready yet (a cluster without a leader, or with too few servers), or for who may make them where
    we may not. Raises ServerTooOld."""
    _check_version(bus)
    told = ""
    while True:
        try:
            await _ensure_stream(bus, events_stream(settings))
            await _ensure_stream(bus, dead_letters_stream(settings))
            await _ensure_stream(bus, replay_stream(settings))
            await _ensure_bucket(bus, settings)
        except (APIError, NatsError, TimeoutError) as error:
            reason = _why(error, settings)
            if isinstance(error, BadRequestError) and error.err_code not in TOO_FEW_SERVERS:
                raise
            if reason != told:
                log.warning("waiting for JetStream: %s", reason)
                told = reason
            await asyncio.sleep(0.5)
        else:
            return


def _why(error: Exception, settings: NatsSettings) -> str:
    if isinstance(error, APIError) and error.err_code in TOO_FEW_SERVERS:
        return (
            f"the settings ask for {settings.replicas} replicas (nats.replicas), and NATS says "
            f"{error.description!r}: start as many servers as one cluster, or ask for fewer"
        )
    return str(error) or type(error).__name__


async def keep_streams(bus: Bus) -> None:
    """Looks after them for ever: a server that was away may come back with an empty disk, and
    somebody may delete one."""
    clock = asyncio.get_running_loop().time
    looked_after, looked_at = -1, clock()
    while True:
        connection = bus.connection
        is_due = clock() - looked_at > LOOK_AGAIN_EVERY
        if bus.is_connected and (connection != looked_after or (is_due and await _misses(bus))):
            await ensure_streams(bus, bus.settings)
            looked_after = connection
        if is_due:
            looked_at = clock()
        await asyncio.sleep(LOOK_EVERY)


async def _misses(bus: Bus) -> bool:
    """Whether a stream is known not to be there."""
    try:
        for name in (EVENTS_STREAM, DEAD_LETTERS_STREAM, REPLAY_STREAM, DOWNLOAD_STATUS_STREAM):
            await bus.js.stream_info(name)
    except NotFoundError:
        return True
    except (NatsError, APIError, TimeoutError):
        return False
    return False


def events_stream(settings: NatsSettings) -> StreamConfig:
    """The stream of all events. It refuses rather than drops when a limit is reached, and takes
    atomic batches. It has no limit for one message: what it refused for good would hold up the
    outbox."""
    return StreamConfig(
        name=EVENTS_STREAM,
        description="mediabus: everything that happened",
        subjects=[EVENTS_SUBJECTS],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        max_age=settings.max_age_days * DAY,
        max_msg_size=-1,
        duplicate_window=DUPLICATE_WINDOW,
        num_replicas=settings.replicas,
        allow_atomic=True,
        allow_direct=True,
    )


def dead_letters_stream(settings: NatsSettings) -> StreamConfig:
    """What could not be stored, as it came, with the reason in its headers."""
    return StreamConfig(
        name=DEAD_LETTERS_STREAM,
        description="mediabus: what no consumer could use, and why",
        subjects=[DEAD_LETTERS_SUBJECTS],
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        max_msg_size=-1,
        duplicate_window=DUPLICATE_WINDOW,
        num_replicas=settings.replicas,
        allow_direct=True,
    )


def replay_stream(settings: NatsSettings) -> StreamConfig:
    """Old events on their way to one consumer each: a message leaves when that one is done with
    it. The consumer must be there before its messages are."""
    return StreamConfig(
        name=REPLAY_STREAM,
        description="mediabus: old events, fed to one consumer once more",
        allow_atomic=True,
        subjects=[REPLAY_SUBJECTS],
        retention=RetentionPolicy.INTEREST,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        max_msg_size=-1,
        max_age=settings.max_age_days * DAY,
        duplicate_window=DUPLICATE_WINDOW,
        num_replicas=settings.replicas,
        allow_direct=True,
    )


async def download_status(bus: Bus) -> KeyValue:
    """The bucket of what the download clients say: one key a download, ``<client>.<item>``, and
    one a client, ``<client>``."""
    return await bus.js.key_value(DOWNLOAD_STATUS_BUCKET)


async def _ensure_stream(bus: Bus, wanted: StreamConfig) -> None:
    try:
        existing = (await bus.js.stream_info(wanted.name or "")).config
    except NotFoundError:
        await bus.js.add_stream(wanted)
        return
    names = (
        "subjects",
        "max_age",
        "discard",
        "max_msg_size",
        "num_replicas",
        "allow_atomic",
        "allow_direct",
    )
    await _adapt(bus, existing, {name: getattr(wanted, name) for name in names})


async def _ensure_bucket(bus: Bus, settings: NatsSettings) -> None:
    try:
        existing = (await bus.js.stream_info(DOWNLOAD_STATUS_STREAM)).config
    except NotFoundError:
        await bus.js.create_key_value(
            KeyValueConfig(
                bucket=DOWNLOAD_STATUS_BUCKET,
                description="mediabus: what the download clients say right now",
                history=1,
                storage=StorageType.FILE,
                replicas=settings.replicas,
                direct=True,
            )
        )
    else:
        await _adapt(bus, existing, {"num_replicas": settings.replicas})


async def _adapt(bus: Bus, existing: StreamConfig, wanted: dict[str, Any]) -> None:
    changed = {
        name: value
        for name, value in wanted.items()
        if (value or None) != (getattr(existing, name) or None)
    }
    if changed:
        with contextlib.suppress(NotAllowed):  # `mediabus service` may, and does
            await bus.js.update_stream(existing.evolve(**changed))
            log.info("stream adapted", extra={"stream": existing.name, "changed": sorted(changed)})


def _check_version(bus: Bus) -> None:
    if bus.nc.max_payload < MAX_EVENT_BYTES + ROOM_FOR_HEADERS:
        raise ServerTooOld(
            f"the NATS server takes messages of {bus.nc.max_payload} bytes: set its max_payload to "
            "1MB, its default, or more"
        )
    version = bus.nc.connected_server_version
    found = (version.major, version.minor, version.patch)
    if found < NEEDS_SERVER:
        raise ServerTooOld(
            f"nats-server {'.'.join(map(str, found))} is too old: "
            f"mediabus needs {'.'.join(map(str, NEEDS_SERVER))} or newer"
        )

"""The configuration of each stream of mediabus, as the settings want it."""

from typing import Final

from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from mediabus.runtime.nats.ownership import DESCRIPTIONS
from mediabus.runtime.settings import NatsSettings, StreamName
from mediabus.schemas.subjects import (
    DEAD_LETTERS_STREAM,
    DEAD_LETTERS_SUBJECTS,
    EVENTS_STREAM,
    EVENTS_SUBJECTS,
    REPLAY_STREAM,
    REPLAY_SUBJECTS,
)

DUPLICATE_WINDOW: Final = 120.0
"""Seconds in which the server drops a message whose id it has seen."""

DAY: Final = 86_400.0


def events_stream(settings: NatsSettings) -> StreamConfig:
    """Return the configuration of the stream of all events.

    At a limit it refuses new messages instead of dropping old ones. It has no limit for the size of
    a message: one that it always refused would block the outbox.
    """
    return StreamConfig(
        name=EVENTS_STREAM,
        description=DESCRIPTIONS[EVENTS_STREAM],
        max_bytes=limit_of(settings, "EVENTS"),
        subjects=[EVENTS_SUBJECTS],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        max_age=settings.max_age_days * DAY,
        max_msg_size=-1,
        duplicate_window=min(DUPLICATE_WINDOW, settings.max_age_days * DAY),
        num_replicas=settings.replicas,
        allow_atomic=True,
        allow_direct=True,
    )


def dead_letters_stream(settings: NatsSettings) -> StreamConfig:
    """Return the configuration of the dead-letter stream."""
    return StreamConfig(
        name=DEAD_LETTERS_STREAM,
        description=DESCRIPTIONS[DEAD_LETTERS_STREAM],
        max_bytes=limit_of(settings, "DEAD_LETTERS"),
        subjects=[DEAD_LETTERS_SUBJECTS],
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        max_msg_size=-1,
        duplicate_window=DUPLICATE_WINDOW,
        num_replicas=settings.replicas,
        allow_direct=True,
    )


def replay_stream(settings: NatsSettings) -> StreamConfig:
    """Return the configuration of the stream of replayed events.

    Each message is for one consumer and is removed once that consumer has acknowledged it. The
    consumer must exist before its messages are published.
    """
    return StreamConfig(
        name=REPLAY_STREAM,
        description=DESCRIPTIONS[REPLAY_STREAM],
        max_bytes=limit_of(settings, "REPLAY"),
        allow_atomic=True,
        subjects=[REPLAY_SUBJECTS],
        retention=RetentionPolicy.INTEREST,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        max_msg_size=-1,
        max_age=settings.max_age_days * DAY,
        duplicate_window=min(DUPLICATE_WINDOW, settings.max_age_days * DAY),
        num_replicas=settings.replicas,
        allow_direct=True,
    )


def managed(settings: NatsSettings) -> tuple[str, ...]:
    """Return the properties that mediabus keeps updated on an existing stream.

    Its size limit is left to the operator unless ``nats.max_bytes`` is set.
    """
    limits = ("max_bytes",) if settings.max_bytes is not None else ()
    return (
        "subjects",
        "max_age",
        "duplicate_window",
        "discard",
        "max_msg_size",
        "num_replicas",
        "no_ack",
        "allow_atomic",
        "allow_direct",
        "metadata",
        *limits,
    )


def limit_of(settings: NatsSettings, name: StreamName) -> int:
    """Return the size limit of a stream or the bucket in bytes, or -1 for no limit."""
    if isinstance(settings.max_bytes, int):
        return settings.max_bytes
    return (settings.max_bytes or {}).get(name, -1)

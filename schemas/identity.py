"""Ids, actors and resources: who did something, to what, and the ids of both."""

import os
import time
import uuid
from typing import Annotated, Literal

import msgspec

ActorType = Literal["user", "system", "job"]
ActorId = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class Actor(msgspec.Struct, frozen=True):
    """Who did something: a person, a program of the system, or a scheduled job.

    >>> actor = mediabus.Actor("user", "42")
    >>> str(actor)
    'user:42'
    """

    type: ActorType
    id: ActorId

    def __str__(self) -> str:
        return f"{self.type}:{self.id}"


class ProvenActor(Actor, frozen=True):
    """An actor that NATS verified by the key of the connection."""


def proof_of(actor: Actor) -> str | None:
    """Return the text, such as ``user:42``, that a table stores for a proven actor; else None."""
    return str(actor) if isinstance(actor, ProvenActor) else None


class Resource(msgspec.Struct, frozen=True):
    """What an event is about, such as ``media_item`` and its id.

    >>> str(mediabus.Resource("media_item", "0198c1f2"))
    'media_item/0198c1f2'
    """

    type: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]

    def __str__(self) -> str:
        return f"{self.type}/{self.id}"


def uuid7(unix_ms: int | None = None) -> uuid.UUID:
    """Return a UUID of version 7 (RFC 9562, 5.7): 48 bits of Unix milliseconds, 74 random bits.

    Ids created in different milliseconds sort by time. Python has ``uuid.uuid7`` since 3.14.
    """
    milliseconds = time.time_ns() // 1_000_000 if unix_ms is None else unix_ms
    random_bits = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | random_bits
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)

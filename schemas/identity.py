"""Ids, actors and resources: who did it, to what, and the ids that name them."""

import os
import time
import uuid
from typing import Annotated, Literal

import msgspec

ActorType = Literal["user", "system", "job"]
ActorId = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class Actor(msgspec.Struct, frozen=True):
    """Who did it: a person, mediabus itself or a scheduled job, always with an id."""

    type: ActorType
    id: ActorId

    def __str__(self) -> str:
        return f"{self.type}:{self.id}"


class Resource(msgspec.Struct, frozen=True):
    """What an event is about, such as ``media_item`` and its id."""

    type: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]

    def __str__(self) -> str:
        return f"{self.type}/{self.id}"


def uuid7(unix_ms: int | None = None) -> uuid.UUID:
    """A UUID of version 7 (RFC 9562, 5.7): 48 bits of Unix milliseconds, 74 random bits.

    Ids made in different milliseconds sort by time. Python 3.14 has one; this serves 3.11.
    """
    milliseconds = time.time_ns() // 1_000_000 if unix_ms is None else unix_ms
    random_bits = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | random_bits
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)

"""The port of a target: send one message, and return what the other side answered."""

import dataclasses
import datetime
import uuid
from collections.abc import Sequence
from typing import Final, Protocol

from mediabus.schemas.envelope import Envelope

DIGESTS: Final = uuid.UUID("6f1e6a54-6b1c-4a0b-9a55-0c3d1b7d2f10")
"""The namespace of the ids of digests."""


@dataclasses.dataclass(frozen=True)
class Message:
    """What a target gets: events, and their text for people."""

    envelopes: Sequence[Envelope]
    title: str
    text: str
    now: datetime.datetime

    @property
    def id(self) -> str:
        """The id of the event; for several, one made of theirs. It is the same on each retry."""
        ids = [event_id_of(envelope) for envelope in self.envelopes]
        return ids[0] if len(ids) == 1 else str(uuid.uuid5(DIGESTS, " ".join(ids)))


def event_id_of(envelope: Envelope) -> str:
    """Return the id under which an event was published."""
    return envelope.published_id or str(envelope.id)


class Failed(Exception):
    """A target did not accept a message. The reason is for people, without secrets.

    ``is_final`` means that no retry can succeed. ``retry_after`` is how many seconds the target
    asks to wait.
    """

    def __init__(
        self, reason: str, *, is_final: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_final = is_final
        self.retry_after = retry_after


class Sender(Protocol):
    """Sends messages to one target."""

    async def send(self, message: Message) -> str:
        """Send a message and return the answer in words.

        Raises:
            Failed: the target did not accept it, or did not say so in time.
        """

    async def close(self) -> None:
        """Close connections."""

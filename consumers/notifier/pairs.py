"""Events that come in pairs: an outage and its end. Pure."""

import datetime
from collections.abc import Sequence
from typing import Final, Protocol

from mediabus.schemas.envelope import Envelope

ENDS: Final = {
    "download_client.unreachable": "download_client.recovered",
    "download.stalled": "download.recovered",
    "health.degraded": "health.recovered",
    "notification.target_failing": "notification.target_recovered",
}
"""The type that begins a pair, and the one that ends it."""

TELLS_APART: Final = ("download_id", "client", "client_item", "app", "check", "target")
"""Fields that both events of a pair share, where they have them."""


class Waiting(Protocol):
    """An event with its position."""

    @property
    def seq(self) -> int:
        """The sequence number in the stream."""

    @property
    def envelope(self) -> Envelope:
        """The event."""

    @property
    def at(self) -> datetime.datetime:
        """When it happened."""


def is_opener(envelope: Envelope) -> bool:
    """Return whether an event begins a pair."""
    return envelope.type in ENDS


def pairs_in(waiting: Sequence[Waiting], hold: datetime.timedelta) -> set[int]:
    """Return the positions of all pairs whose end follows within ``hold``."""
    openers: dict[tuple[str, ...], Waiting] = {}
    paired: list[int] = []
    for one in waiting:
        if is_opener(one.envelope):
            openers.setdefault(_key(ENDS[one.envelope.type], one.envelope), one)
            continue
        opener = openers.pop(_key(one.envelope.type, one.envelope), None)
        if opener is not None and one.at - opener.at <= hold:
            paired += [opener.seq, one.seq]
    return set(paired)


def _key(end: str, envelope: Envelope) -> tuple[str, ...]:
    fields = envelope.fields()
    shared = (str(fields.get(name) or "") for name in TELLS_APART)
    return (end, str(envelope.resource or ""), *shared)

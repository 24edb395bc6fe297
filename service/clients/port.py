"""The port that every download client implements: one file a client, these six calls.

An adapter translates; it decides nothing. It keeps no history, emits no event and never turns
"could not ask" into "has nothing".
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from schemas.status import DownloadStatus, ItemId, UnreachableReason
from service.runtime.redact import without_secrets


@dataclasses.dataclass(frozen=True)
class Magnet:
    """A magnet link, as given."""

    uri: str


@dataclasses.dataclass(frozen=True)
class TorrentFile:
    """The bytes of a ``.torrent`` file."""

    content: bytes


@dataclasses.dataclass(frozen=True)
class NzbFile:
    """The bytes of an ``.nzb`` file and the name to show for it."""

    content: bytes
    name: str


Source = Magnet | TorrentFile | NzbFile
"""What to download. A URL has been fetched and become one of these before it comes here."""


class ClientUnavailable(Exception):
    """The client could not be asked: nothing is known, nothing was done."""

    def __init__(self, reason: UnreachableReason, message: str) -> None:
        super().__init__(without_secrets(message))
        self.reason: UnreachableReason = reason


class ClientRefused(Exception):
    """The client was asked and said no, in its own words."""

    def __init__(self, message: str) -> None:
        super().__init__(without_secrets(message))


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """All that the client has at this moment. ``restarted`` if the program was started anew since
    this session's last observation, as far as that can be told; never in the first one."""

    items: Sequence[DownloadStatus]
    restarted: bool = False


@dataclasses.dataclass(frozen=True)
class Delta:
    """What changed since the last observation of the same session; ``removed`` names what the
    client says is gone. A changed item carries its whole status."""

    changed: Sequence[DownloadStatus]
    removed: Sequence[ItemId]


Observation = Snapshot | Delta


class DownloadClient(Protocol):
    """A session with one download client.

    Every call has a timeout and raises ``ClientUnavailable`` when the client cannot be asked
    (a session that expired is renewed once, unseen) and ``ClientRefused`` when it says no.
    """

    async def version(self) -> str:
        """The program's own version, such as ``4.5.2``."""

    async def observe(self) -> Observation:
        """What the client has, by the cheapest API there is: the first answer of a session is a
        ``Snapshot``, later ones may be a ``Delta``. Never answers with less than the client has."""

    async def add(self, source: Source, *, title: str, category: str | None) -> ItemId:
        """Hand over a download and return its id, once the client lists it.
        Raises ``ClientRefused`` for a duplicate or something it cannot use."""

    async def pause(self, item: ItemId) -> None:
        """Stop the download where it is. Pausing what is paused is no error; an item that the
        client does not have is ``ClientRefused``."""

    async def resume(self, item: ItemId) -> None:
        """Let the download go on. As ``pause``."""

    async def remove(self, item: ItemId, *, delete_files: bool) -> None:
        """Take the download out of the client, with or without its files. As ``pause``, but
        removing what is gone already is no error."""

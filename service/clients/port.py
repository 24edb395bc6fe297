"""The interface that every download client implements: one adapter per client, six calls each.

An adapter only translates. It keeps no history, publishes no events, and never reports a client
that it cannot reach as a client without downloads.

To add a client, write a ``ClientSettings`` subclass whose ``connect`` opens a ``DownloadClient``,
add it to ``AnyClientSettings`` in this package's ``__init__``, and run the conformance tests.
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from mediabus.runtime.redact import without_secrets
from mediabus.schemas.status import DownloadStatus, ItemId, UnreachableReason
from mediabus.service.clients.limits import MAX_MESSAGE_LENGTH, cut


@dataclasses.dataclass(frozen=True)
class Magnet:
    """A magnet link, unchanged from the request."""

    uri: str


@dataclasses.dataclass(frozen=True)
class TorrentFile:
    """The bytes of a ``.torrent`` file."""

    content: bytes


@dataclasses.dataclass(frozen=True)
class NzbFile:
    """The bytes of an ``.nzb`` file and the display name of the download."""

    content: bytes
    name: str


Source = Magnet | TorrentFile | NzbFile
"""What to download. URLs are fetched before they reach an adapter, and become one of these."""


class ClientUnavailable(Exception):
    """The client could not be queried. Its state is unknown, and nothing was changed.

    ``reason`` becomes the reason of ``download_client.unreachable``. The message is shortened and
    holds no passwords or keys.
    """

    def __init__(self, reason: UnreachableReason, message: str) -> None:
        super().__init__(without_secrets(cut(message, MAX_MESSAGE_LENGTH)))
        self.reason: UnreachableReason = reason


class ClientRefused(Exception):
    """The client answered and refused the call. The message quotes its answer where there is one.

    The message is shortened and holds no passwords or keys.
    """

    def __init__(self, message: str) -> None:
        super().__init__(without_secrets(cut(message, MAX_MESSAGE_LENGTH)))


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """All downloads of the client at one moment.

    ``restarted`` is true if the client's process was restarted after this session's previous
    observation, as far as the adapter can detect that. It is false in the first observation.
    ``warning`` is a warning about the client as a whole, in the client's own text.
    """

    items: Sequence[DownloadStatus]
    restarted: bool = False
    warning: str | None = None


@dataclasses.dataclass(frozen=True)
class Delta:
    """What changed since the previous observation of the same session.

    ``changed`` holds the complete status of each changed download, and ``removed`` the ids of those
    that the client reports as removed.
    """

    changed: Sequence[DownloadStatus]
    removed: Sequence[ItemId]


Observation = Snapshot | Delta
"""The result of one poll."""


class DownloadClient(Protocol):
    """A session with one download client.

    Every call has a timeout: the ``timeout`` of the client's settings, in seconds. An expired login
    is renewed once, inside the call.

    Raises:
        ClientUnavailable: from any call, if the client cannot be queried.
        ClientRefused: from any call, if the client answers and refuses it.
    """

    async def version(self) -> str:
        """Return the client's version, such as ``4.5.2``."""

    async def observe(self) -> Observation:
        """Return what the client has, through its cheapest API.

        The first result of a session is a ``Snapshot``; later ones may be a ``Delta``. A partial
        answer raises ``ClientUnavailable``: the result never omits downloads that the client has.
        """

    async def add(self, source: Source, *, title: str, category: str | None) -> ItemId:
        """Add a download and return its id once the client lists it.

        Raises:
            ClientRefused: the client already has the download, or cannot use the source.
        """

    async def pause(self, item: ItemId) -> None:
        """Pause a download. Pausing a paused download does nothing.

        Raises:
            ClientRefused: the client does not have the download, or cannot pause it.
        """

    async def resume(self, item: ItemId) -> None:
        """Resume a download. Resuming a running download does nothing.

        Raises:
            ClientRefused: the client does not have the download, or cannot resume it.
        """

    async def remove(self, item: ItemId, *, delete_files: bool) -> None:
        """Remove a download, and its files if ``delete_files``.

        Removing a download that the client does not have does nothing.

        Raises:
            ClientRefused: the client cannot remove the download, or cannot do so as asked.
        """

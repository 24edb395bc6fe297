"""What this consumer needs of mediabus. The wiring provides it."""

import datetime
from collections.abc import AsyncGenerator, Mapping
from typing import Literal, Protocol
from uuid import UUID

from mediabus.schemas.envelope import Envelope
from mediabus.schemas.operations.apps import AppState
from mediabus.schemas.status import ClientName, ClientStatus, DownloadStatus, ItemId

Command = Literal["pause", "resume"]


class LibraryUnavailable(Exception):
    """A request got no reply, or was refused."""


class Statuses(Protocol):
    """The latest statuses of all clients and their downloads."""

    @property
    def clients(self) -> Mapping[ClientName, ClientStatus]: ...

    @property
    def downloads(self) -> Mapping[tuple[ClientName, ItemId], DownloadStatus]: ...


class Library(Protocol):
    """The running mediabus, through NATS."""

    @property
    def statuses(self) -> Statuses: ...

    @property
    def is_connected(self) -> bool:
        """Whether NATS is reachable now."""

    def follow_statuses(self) -> AsyncGenerator[None]:
        """Keep ``statuses`` up to date: yield once it is complete, and after every change.

        Raises LibraryUnavailable.
        """

    async def forget_purged(self) -> None:
        """Remove the statuses that are no longer in the bucket, though no message deleted them.

        Raises LibraryUnavailable.
        """

    def events(self) -> AsyncGenerator[Envelope]:
        """Yield the events that happen from now on, each once. Raises LibraryUnavailable."""

    async def failed_since(self, moment: datetime.datetime) -> int:
        """Count the downloads that failed since a moment. Raises LibraryUnavailable."""

    async def apps(self) -> tuple[AppState, ...]:
        """Return the applications that mediabus reads. Raises LibraryUnavailable."""

    async def dead_letters(self) -> int:
        """Count the dead letters. Raises LibraryUnavailable."""

    def downloads_for(self, client: str, command: Command) -> AsyncGenerator[UUID]:
        """Yield the ids of a client's downloads that a command changes.

        Raises LibraryUnavailable.
        """

    async def act(self, download: UUID, command: Command) -> None:
        """Pause or resume a download in the name of Home Assistant. Raises LibraryUnavailable."""

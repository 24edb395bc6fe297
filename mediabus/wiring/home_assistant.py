"""Connect Home Assistant with the status bucket, the events and the operations."""

import contextlib
import datetime
from collections.abc import AsyncGenerator
from typing import Final
from uuid import UUID

from nats.errors import Error as NatsError
from nats.js.errors import APIError

from mediabus.api.bus import Bus
from mediabus.api.errors import NoAnswer, OperationFailed
from mediabus.api.request import ask
from mediabus.consumers.home_assistant.library import Command, LibraryUnavailable
from mediabus.consumers.home_assistant.run import FAILED, keep_home_assistant
from mediabus.consumers.home_assistant.settings import MqttConfig
from mediabus.runtime.error_text import error_text
from mediabus.runtime.nats import bus as nats_bus
from mediabus.runtime.process.work import Work
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.identity import Actor
from mediabus.schemas.operations.apps import AppList, AppState, ListApps
from mediabus.schemas.operations.requests import DownloadState
from mediabus.schemas.subjects import DEAD_LETTERS_STREAM
from mediabus.service.downloads.bucket import Shown, client_names, follow

ACTOR: Final = Actor("user", "homeassistant")
PAGE: Final = 500

CHANGED_BY: Final[dict[Command, tuple[DownloadState, ...]]] = {
    "pause": ("active", "stalled"),
    "resume": ("paused",),
}
"""The states of the downloads that a command changes."""


async def run(work: Work[MqttConfig]) -> None:
    """Publish to the MQTT broker until cancelled."""
    await keep_home_assistant(ConnectedLibrary(work.bus), work.config)


class ConnectedLibrary:
    """The library as Home Assistant needs it, over a connection to NATS."""

    def __init__(self, bus: nats_bus.Bus) -> None:
        self.statuses = Shown()
        self._nats = bus
        self._bus = Bus(bus, ACTOR)

    @property
    def is_connected(self) -> bool:
        """Whether NATS is reachable now."""
        return self._nats.is_connected

    async def follow_statuses(self) -> AsyncGenerator[None]:
        """Keep ``statuses`` up to date."""
        try:
            async with contextlib.aclosing(follow(self._nats, self.statuses)) as changes:
                async for _ in changes:
                    yield
        except (NatsError, APIError, TimeoutError) as error:
            raise LibraryUnavailable(error_text(error)) from error

    async def forget_purged(self) -> None:
        """Remove the clients whose statuses the monitor has purged, and their downloads."""
        before = {*self.statuses.clients, *(client for client, _ in self.statuses.downloads)}
        try:
            gone = before.difference(await client_names(self._nats))
        except (NatsError, APIError, TimeoutError) as error:
            raise LibraryUnavailable(error_text(error)) from error
        for client in gone:
            self.statuses.forget(client)

    async def events(self) -> AsyncGenerator[Envelope]:
        """Yield the events that happen from now on."""
        try:
            async for envelope in self._bus.events():
                yield envelope
        except (NatsError, APIError, TimeoutError, nats_bus.CannotConnect) as error:
            raise LibraryUnavailable(error_text(error)) from error

    async def failed_since(self, moment: datetime.datetime) -> int:
        """Count the failed downloads in the history."""
        try:
            return (await self._bus.history.count(type=FAILED, since=moment)).total
        except (NoAnswer, OperationFailed) as error:
            raise LibraryUnavailable(str(error)) from error

    async def apps(self) -> tuple[AppState, ...]:
        """Return the applications, as the service last saw them."""
        try:
            return tuple((await ask(self._nats, "apps.list", ListApps(), AppList)).items)
        except (NoAnswer, OperationFailed) as error:
            raise LibraryUnavailable(str(error)) from error

    async def dead_letters(self) -> int:
        """Count the messages of the stream of dead letters."""
        try:
            return (await self._nats.js.stream_info(DEAD_LETTERS_STREAM)).state.messages
        except (NatsError, APIError, TimeoutError) as error:
            raise LibraryUnavailable(error_text(error)) from error

    async def downloads_for(self, client: str, command: Command) -> AsyncGenerator[UUID]:
        """Yield the ids of the downloads that a command changes."""
        after = None
        while True:
            try:
                page = await self._bus.downloads.list(
                    client=client, state=list(CHANGED_BY[command]), limit=PAGE, after=after
                )
            except (NoAnswer, OperationFailed) as error:
                raise LibraryUnavailable(str(error)) from error
            for download in page.items:
                yield download.id
            after = page.next
            if after is None:
                return

    async def act(self, download: UUID, command: Command) -> None:
        """Pause or resume a download."""
        downloads = self._bus.downloads
        method = downloads.pause if command == "pause" else downloads.resume
        try:
            await method(download)
        except (NoAnswer, OperationFailed) as error:
            raise LibraryUnavailable(str(error)) from error

"""Parse the configured download clients, open sessions with them, and choose one."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, get_args

from mediabus.runtime import metrics
from mediabus.runtime.settings import Settings
from mediabus.runtime.settings_tables import typed_rows
from mediabus.schemas.status import Protocol
from mediabus.service.clients import AnyClientSettings
from mediabus.service.clients.guard import TIMEOUTS, guarded
from mediabus.service.clients.port import DownloadClient
from mediabus.service.clients.settings import ClientSettings

KINDS: Final[dict[str, type[AnyClientSettings]]] = {
    str(settings.__struct_config__.tag): settings for settings in get_args(AnyClientSettings)
}
"""The settings of each kind of client, by the value of ``kind``."""


MAX_CALL: Final = 60.0
"""Seconds for which a session stays open after a reload replaced it, at most."""


class NoSuchClient(Exception):
    """No configured client fits. The message lists those that are configured."""


def client_settings(
    settings: Settings, environ: Mapping[str, str] | None = None
) -> list[AnyClientSettings]:
    """Parse the ``[[clients]]`` tables of the settings.

    Raises SettingsError, which names the key, or the variable that set it.
    """
    environ = os.environ if environ is None else environ
    return list(typed_rows(settings.clients, KINDS, "clients", environ))


class Sessions:
    """The open sessions with all enabled clients."""

    def __init__(self, opened: Sequence[tuple[ClientSettings, DownloadClient]]) -> None:
        self._opened: Final = {settings.name: (settings, client) for settings, client in opened}

    def choose(self, name: str | None, protocol: Protocol) -> str:
        """Return the named client, or the client of the protocol with the lowest priority number.

        Raises NoSuchClient.
        """
        fitting = sorted(
            (settings.priority, settings.name)
            for settings, _ in self._opened.values()
            if settings.protocol == protocol
        )
        names = [fitting_name for _, fitting_name in fitting]
        if name is None and names:
            return names[0]
        if name is not None and name in names:
            return name
        wanted = f"named {name!r}" if name else "at all"
        there = f"enabled are {', '.join(names)}" if names else "the settings have none"
        raise NoSuchClient(f"no {protocol} client {wanted}: {there}")

    def category(self, name: str) -> str | None:
        """Return the configured category for downloads of this client."""
        return self._opened[name][0].category

    def client(self, name: str) -> DownloadClient:
        """Return the session with a client. Raises NoSuchClient if it is no longer configured."""
        if name not in self._opened:
            raise NoSuchClient(f"the settings have no enabled client named {name!r}")
        return self._opened[name][1]


class OpenSessions(Sessions):
    """Sessions that follow the settings."""

    def __init__(self) -> None:
        super().__init__(())
        self._closers: Final[dict[str, contextlib.AsyncExitStack]] = {}
        self._leaving: Final[dict[asyncio.Task[None], contextlib.AsyncExitStack]] = {}

    async def apply(self, clients: Sequence[ClientSettings]) -> None:
        """Open the sessions of new and changed clients, and close those of removed ones.

        A request never finds a changed client without a session.
        """
        enabled = {settings.name: settings for settings in clients if settings.enabled}
        for name, settings in enabled.items():
            if name in self._opened and self._opened[name][0] == settings:
                continue
            closer = contextlib.AsyncExitStack()
            client = await closer.enter_async_context(guarded(settings))
            self._retire(name)
            self._opened[name], self._closers[name] = (settings, client), closer
        for name in self._opened.keys() - enabled.keys():
            self._retire(name)
            del self._opened[name]
            metrics.forget("client", name)

    def _retire(self, name: str) -> None:
        """Close a session after the calls that use it have ended."""
        if (closer := self._closers.pop(name, None)) is not None:
            seconds = min(TIMEOUTS * self._opened[name][0].timeout, MAX_CALL)
            task = asyncio.create_task(_close_later(closer, seconds), name=f"close {name}")
            self._leaving[task] = closer
            task.add_done_callback(lambda done: self._leaving.pop(done, None))

    async def close(self) -> None:
        """Close all sessions now."""
        leaving = dict(self._leaving)
        for task in leaving:
            task.cancel()
        for closer in (*leaving.values(), *self._closers.values()):
            await closer.aclose()


async def _close_later(closer: contextlib.AsyncExitStack, seconds: float) -> None:
    await asyncio.sleep(seconds)
    await closer.aclose()


@contextlib.asynccontextmanager
async def open_sessions(clients: Sequence[ClientSettings]) -> AsyncIterator[OpenSessions]:
    """Open sessions with the enabled clients. This sends them no request."""
    sessions = OpenSessions()
    try:
        await sessions.apply(clients)
        yield sessions
    finally:
        await sessions.close()

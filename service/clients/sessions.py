"""The download clients of the settings: which there are, which one to take, and their sessions."""

import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, get_args

import msgspec

from schemas.status import Protocol
from service.clients import AnyClientSettings
from service.clients.port import DownloadClient
from service.clients.settings import ClientSettings
from service.runtime.places import place_and_rule
from service.runtime.settings import Settings, SettingsError, in_words, variable_prefix, wrong

KINDS: Final[dict[str, type[AnyClientSettings]]] = {
    str(settings.__struct_config__.tag): settings for settings in get_args(AnyClientSettings)
}
"""What a client may be, in the settings."""


class NoSuchClient(Exception):
    """No client of the settings fits; the message says which there are."""


def client_settings(
    settings: Settings, environ: Mapping[str, str] | None = None
) -> list[AnyClientSettings]:
    """The ``[[clients]]`` of the settings, typed. Raises SettingsError naming the key, or the
    variable that it came from."""
    environ = os.environ if environ is None else environ
    clients = [
        _typed(f"clients[{number}]", table, environ)
        for number, table in enumerate(settings.clients)
    ]
    prefixes = [variable_prefix(client.name) for client in clients]
    for client, prefix in zip(clients, prefixes, strict=True):
        if prefixes.count(prefix) > 1:
            raise SettingsError(f"settings: clients: two are named {client.name!r}: rename one")
    return clients


def _typed(place: str, table: dict[str, Any], environ: Mapping[str, str]) -> AnyClientSettings:
    prefix = variable_prefix(table.get("name", ""))
    kind = str(table.get("kind", ""))
    if kind not in KINDS:
        why = f"there is no kind {kind!r}" if kind else "it must be given"
        kinds = ", ".join(KINDS)
        raise wrong(f"{place}.kind", f"{prefix}KIND", f"{why}: it takes {kinds}", environ)
    try:
        return msgspec.convert(table, KINDS[kind], strict=False)
    except msgspec.ValidationError as error:
        key, rule = place_and_rule(error)
        name = key or rule.partition(" ")[0]  # url or tls_ca: what is wrong begins with it
        why = in_words(rule, name, KINDS[kind])
        raise wrong(f"{place}.{name}", f"{prefix}{name}".upper(), why, environ) from error


class Sessions:
    """Open sessions with every enabled client."""

    def __init__(self, opened: Sequence[tuple[ClientSettings, DownloadClient]]) -> None:
        self._opened: Final = {settings.name: (settings, client) for settings, client in opened}

    def choose(self, name: str | None, protocol: Protocol) -> str:
        """The named client, or the one of the protocol with the lowest priority number. Raises
        NoSuchClient."""
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
        """The category that the settings give to downloads of this client."""
        return self._opened[name][0].category

    def client(self, name: str) -> DownloadClient:
        """The session with a client. Raises NoSuchClient where the settings no longer have it."""
        if name not in self._opened:
            raise NoSuchClient(f"the settings have no enabled client named {name!r}")
        return self._opened[name][1]


@contextlib.asynccontextmanager
async def open_sessions(clients: Sequence[ClientSettings]) -> AsyncIterator[Sessions]:
    """Sessions with the enabled clients; none of them is asked anything yet."""
    async with contextlib.AsyncExitStack() as stack:
        yield Sessions(
            [
                (settings, await stack.enter_async_context(settings.connect()))
                for settings in clients
                if settings.enabled
            ]
        )

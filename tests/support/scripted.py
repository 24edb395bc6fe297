"""A download client that shows what a test says: for what no real one can be brought to show."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import msgspec

from mediabus.schemas.status import DownloadStatus, ItemId, Phase, Protocol
from mediabus.service.clients.port import (
    ClientRefused,
    ClientUnavailable,
    Delta,
    DownloadClient,
    Observation,
    Snapshot,
    Source,
)
from mediabus.service.clients.settings import ClientSettings


class Script:
    """What the client shows. Its session answers all once, and afterwards what changed."""

    def __init__(self) -> None:
        self.items: dict[ItemId, DownloadStatus] = {}
        self.shown: dict[ItemId, DownloadStatus] | None = None
        self.version_fails = 0
        self.running = "1.0"
        self.away_for = 0  # looks
        self.answers_after = 0.0  # seconds
        self.looks = 0  # that were answered, or not
        self.restarted = False
        self.whole = False  # whether every look shows all, as usenet clients do
        self.warning: str | None = None

    def show(self, item: str, phase: str, **facts: Any) -> None:
        status = {"client": "script", "item": item, "title": item, "phase": phase, **facts}
        self.items[ItemId(item)] = msgspec.convert(status, DownloadStatus)

    def restart(self) -> None:
        """The next look is the first one after a restart."""
        self.shown, self.restarted = None, True

    async def version(self) -> str:
        if self.version_fails:
            self.version_fails -= 1
            raise ClientUnavailable("connection", "no answer")
        return self.running

    async def observe(self) -> Observation:
        await asyncio.sleep(self.answers_after)
        self.looks += 1
        if self.away_for:
            self.away_for -= 1
            raise ClientUnavailable("connection", "no answer")
        before, self.shown = self.shown, dict(self.items)
        if before is None or self.whole:
            restarted, self.restarted = self.restarted, False
            return Snapshot(list(self.items.values()), restarted, self.warning)
        changed = [status for item, status in self.items.items() if before.get(item) != status]
        return Delta(changed, list(before.keys() - self.items.keys()))

    async def add(self, source: Source, *, title: str, category: str | None) -> ItemId:
        raise ClientRefused(f"{title} is not in the script ({source}, {category})")

    async def pause(self, item: ItemId) -> None:
        self.items[item] = msgspec.structs.replace(self.items[item], phase=Phase.PAUSED)

    async def resume(self, item: ItemId) -> None:
        self.items[item] = msgspec.structs.replace(self.items[item], phase=Phase.DOWNLOADING)

    async def remove(self, item: ItemId, *, delete_files: bool) -> None:
        assert delete_files in {True, False}
        self.items.pop(item, None)


class AlwaysListed:
    """A list that every download is in."""

    def lists(self, item: ItemId, *, since: float) -> bool:
        return bool(item) and since >= 0

    def poll_soon(self) -> float:
        return 0.0


SCRIPTS: dict[str, Script] = {}


class ScriptedSettings(ClientSettings, frozen=True, kw_only=True, tag="scripted"):
    """Settings that lead to the script of ``url``."""

    protocol: ClassVar[Protocol] = "torrent"

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[DownloadClient]:
        script = SCRIPTS[self.url]
        script.shown = None
        yield script


def scripted(name: str = "script") -> tuple[Script, ScriptedSettings]:
    """A script of its own, and the settings that lead to it."""
    url = f"script:{len(SCRIPTS)}"
    script = SCRIPTS[url] = Script()
    return script, ScriptedSettings(name=name, url=url, poll_active=0.1, poll_idle=0.1)


class ScriptedUsenetSettings(ScriptedSettings, frozen=True, kw_only=True, tag="scripted_usenet"):
    """The same for a client of usenet."""

    protocol: ClassVar[Protocol] = "usenet"


def scripted_usenet(name: str = "script") -> tuple[Script, ScriptedUsenetSettings]:
    """As ``scripted``, of a usenet client, which always shows all that it has."""
    script, settings = scripted(name)
    script.whole = True
    facts = msgspec.structs.asdict(settings)
    return script, ScriptedUsenetSettings(**facts)

"""Reload the settings of a running process: of clients, applications and targets."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from mediabus.runtime.process.settings_watch import SettingsWatch
from mediabus.runtime.settings import NAMED_TABLES, Settings, SettingsError
from mediabus.runtime.settings_errors import Faults
from mediabus.wiring.parts import Part

log: Final = logging.getLogger("mediabus.settings")


class Source(NamedTuple):
    """Where the settings of a process come from."""

    find: Callable[[], str | None]
    """Returns the settings file, if there is one."""

    load: Callable[[], Settings]
    """Loads the file and the variables again. Raises SettingsError."""

    @classmethod
    def fixed(cls, settings: Settings) -> "Source":
        """Return a source of settings that never change."""
        return cls(lambda: None, lambda: settings)


class Reloading:
    """Loads the settings again, and hands the parts what they can use without a restart."""

    def __init__(self, source: Source, settings: Settings, parts: Sequence[Part]) -> None:
        self._load = source.load
        self._watch = SettingsWatch(source.find)
        self._settings = settings
        self._parts = [(part, part.live) for part in parts if part.live is not None]
        self._tables = sorted({table for part, _ in self._parts for table in part.reloads})

    def ask(self) -> None:
        """Reload now, also if the file is unchanged: files with secrets may have changed."""
        self._watch.ask()

    async def run(self) -> None:
        """Reload on request and when the file changes, until cancelled."""
        async for was_asked in self._watch.changes():
            try:
                await self._reload(was_asked=was_asked)
            except SettingsError as error:
                for one in (error, *error.further):
                    reason = str(one).removeprefix("settings: ")
                    log.error("settings not reloaded", extra={"reason": reason})
            except Exception:  # a reload must not end what works
                log.exception("settings not reloaded")

    async def _reload(self, *, was_asked: bool) -> None:
        loaded = await asyncio.to_thread(self._load)
        tables = {table: getattr(loaded, table) for table in self._tables}
        merged = msgspec.structs.replace(self._settings, **tables)
        is_new = was_asked or merged != self._settings  # files with secrets may have changed
        configs = await self._parsed(merged) if is_new else []
        _report(self._settings, loaded, self._tables, was_asked=was_asked)
        self._settings = merged
        for (_, live), config in zip(self._parts, configs, strict=is_new):
            live.replace(config)

    async def _parsed(self, settings: Settings) -> list[Any]:
        """Parse the settings as at the start. Raises SettingsError before anything is replaced."""
        faults, configs = Faults(), []
        for part, _ in self._parts:
            with faults.collected():
                config = part.parse(settings) if part.parse else None
                configs.append(config)
                if part.check and config is not None:
                    await part.check(config)
        faults.raise_first()
        return configs


def _report(before: Settings, after: Settings, tables: Sequence[str], *, was_asked: bool) -> None:
    """Log what changes now, and what only a restart changes."""
    changes = {name: names for name, names in _changes(before, after, tables).items() if names}
    if changes or was_asked:
        fields = {name: ", ".join(names) for name, names in changes.items()}
        log.info("settings reloaded", extra=fields)
    if keys := restart_keys(before, after):
        log.warning("settings need a restart", extra={"keys": ", ".join(keys)})


def _changes(before: Settings, after: Settings, tables: Sequence[str]) -> dict[str, list[str]]:
    """Return the tables that were added, removed and changed, such as ``clients.home``."""
    found: dict[str, list[str]] = {"added": [], "removed": [], "changed": []}
    for table in tables:
        old, new = _by_name(getattr(before, table)), _by_name(getattr(after, table))
        found["added"] += [f"{table}.{name}" for name in new.keys() - old.keys()]
        found["removed"] += [f"{table}.{name}" for name in old.keys() - new.keys()]
        common = old.keys() & new.keys()
        found["changed"] += [f"{table}.{name}" for name in common if old[name] != new[name]]
    return {kind: sorted(names) for kind, names in found.items()}


def _by_name(rows: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {str(row.get("name")): row for row in rows}


def restart_keys(before: Settings, after: Settings) -> list[str]:
    """Return the changed keys outside of the reloaded tables, such as ``nats.url``."""
    changed = []
    for section in Settings.__struct_fields__:
        old, new = getattr(before, section), getattr(after, section)
        if section in NAMED_TABLES or old == new:
            continue
        if isinstance(old, msgspec.Struct):
            keys = old.__struct_fields__
            changed += [
                f"{section}.{key}" for key in keys if getattr(old, key) != getattr(new, key)
            ]
        else:
            changed.append(section)
    return changed

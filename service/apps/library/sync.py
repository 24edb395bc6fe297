"""Make the media items of mediabus those of an application's library.

An application changes only what it says differently than before, so a change that a user made in
mediabus stays. Applications that have the same item share it: it is monitored if one of them
monitors it, and it is removed when the last of them has lost it.
"""

import logging
from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from mediabus.runtime.postgres.database import Connection
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import (
    Event,
    MediaItemAdded,
    MediaItemMonitoringChanged,
    MediaItemRemoved,
    MediaItemUpdated,
)
from mediabus.schemas.events.media import MediaType
from mediabus.schemas.fitting import fitted
from mediabus.schemas.identity import Actor, Resource, uuid7
from mediabus.service.apps.envelope import IMPORTED
from mediabus.service.apps.http import AppHttp
from mediabus.service.apps.library.entry import FIELDS, ITEM_FIELDS, Entry, Listed, Source
from mediabus.service.apps.library.statements import (
    ADD,
    DELETE,
    DONE,
    GONE,
    INHERIT,
    ITEMS,
    LOCK,
    MATCH,
    MISSING,
    NOTE_REMOVAL,
    PLAN_AGAIN,
    SAVE,
    SOURCES,
    UPDATE,
)
from mediabus.service.apps.port import Removal
from mediabus.service.apps.settings import AppSettings
from mediabus.service.outbox.outbox import Outbox, Recorder

log: Final = logging.getLogger("mediabus.apps")

CHUNK: Final = 500
"""Entries of one transaction."""

GONE_AFTER: Final = 5.0
"""Seconds that an item must be missing: a removal must last."""

ATTEMPTS: Final = 3
"""How often a chunk is tried that another application has changed meanwhile."""


class Library:
    """The library of one application."""

    def __init__(self, outbox: Outbox, settings: AppSettings) -> None:
        self._outbox = outbox
        self._app = settings.name
        self._path = settings.library
        self._type: MediaType = settings.media_type

    async def sync(self, http: AppHttp) -> bool:
        """Read the whole library, and make the media items like it.

        An item is removed if a second list, some seconds later, lacks it too. Returns whether an
        item is missing for the first time.

        Raises:
            ClientUnavailable: the application does not answer.
        """
        if self._path is None:
            return False
        listed = await http.get_all(self._path, Listed)
        entries = {
            entry.key: entry for item in listed if (entry := item.entry(self._type)) is not None
        }
        # An entry without a title cannot be stored, but it is not missing.
        keys = {key for item in listed if (key := item.key(self._type)) is not None}
        del listed
        chosen = list(entries.values())
        for start in range(0, len(chosen), CHUNK):
            await self._store(chosen[start : start + CHUNK])
        is_missing = await self._note_missing(list(keys))
        while await self._remove_some():
            pass
        return is_missing

    async def note_removals(self, removals: Iterable[Removal]) -> None:
        """Remember whether the files of removed items were deleted, for the event."""
        async with self._outbox.transaction() as work:
            for removal in removals:
                await work.connection.execute(
                    NOTE_REMOVAL, self._app, removal.item, removal.files_deleted
                )

    async def _store(self, entries: Sequence[Entry]) -> None:
        """Store a chunk. Entries that the database refuses are left out, one by one."""
        for _ in range(ATTEMPTS):
            try:
                async with self._outbox.transaction() as work:
                    await self._store_in(work, entries)
            except (asyncpg.UniqueViolationError, asyncpg.DeadlockDetectedError):
                continue  # another application has added one of them
            return
        if len(entries) > 1:
            for entry in entries:
                await self._store([entry])
        else:
            fields = {"app": self._app, "title": entries[0].title, "key": entries[0].key}
            log.warning("media item skipped: its ids belong to two items", extra=fields)

    async def _store_in(self, work: Recorder, entries: Sequence[Entry]) -> None:
        await work.connection.execute(PLAN_AGAIN)
        was_read = await work.connection.fetchval(LOCK, self._app)
        known = await self._sources(work.connection, entries)
        changed = [
            entry
            for entry in entries
            if entry.key not in known or not known[entry.key].is_same(entry)
        ]
        if not changed:
            return
        new = [entry for entry in changed if self._is_new(entry, known.get(entry.key))]
        matched = await self._matched(work.connection, new)
        added = self._identified([entry for entry in new if entry.key not in matched])
        if added:
            rows = [{"id": str(item), **msgspec.structs.asdict(e)} for e, item in added]
            await work.connection.execute(ADD, rows, self._type)
        ids = {**matched, **{entry.key: item for entry, item in added}}
        await self._save(work.connection, changed, known, ids, {entry.key for entry, _ in added})
        # The library at first contact emits no events.
        mark = {} if was_read else IMPORTED
        await work.record(*(self._added(entry, item, mark) for entry, item in added))
        await self._apply(work, changed, known, matched)

    def _is_new(self, entry: Entry, source: Source | None) -> bool:
        """Whether the entry gets a media item now. A movie gets it with its year."""
        had_no_year = source is not None and source.year is None and source.media_item_id is None
        return entry.can_be_item(self._type) and (
            source is None or (had_no_year and self._type == "movie")
        )

    async def _sources(self, connection: Connection, entries: Sequence[Entry]) -> dict[str, Source]:
        rows = await connection.fetch(SOURCES, self._app, [entry.key for entry in entries])
        return {row["key"]: msgspec.convert(dict(row), Source) for row in rows}

    async def _matched(self, connection: Connection, new: Sequence[Entry]) -> dict[str, UUID]:
        """Return the media items that have an id of an entry, by the entry's key."""
        rows = await connection.fetch(
            MATCH,
            [entry.key for entry in new],
            [entry.tmdb_id for entry in new],
            [entry.tvdb_id for entry in new],
            [entry.imdb_id for entry in new],
            self._type,
        )
        return {row["key"]: row["id"] for row in rows}

    def _identified(self, entries: Iterable[Entry]) -> list[tuple[Entry, UUID]]:
        """Give each new media item its id."""
        return [(entry, uuid7()) for entry in entries]

    async def _save(
        self,
        connection: Connection,
        changed: Sequence[Entry],
        known: dict[str, Source],
        ids: dict[str, UUID],
        added: set[str],
    ) -> None:
        rows = []
        for entry in changed:
            source = known.get(entry.key)
            item = ids.get(entry.key) or (source.media_item_id if source else None)
            owns = entry.key in added or (source is not None and source.owns)
            kept = msgspec.structs.asdict(source) if source else {}
            said = {
                name: value
                for name, value in msgspec.structs.asdict(entry).items()
                if value is not None
            }
            rows.append(
                {
                    **kept,
                    **said,
                    "app": self._app,
                    "media_item_id": str(item) if item else None,
                    "owns": owns,
                    "missing_since": None,
                }
            )
        await connection.execute(SAVE, rows)

    async def _apply(
        self,
        work: Recorder,
        changed: Sequence[Entry],
        known: dict[str, Source],
        matched: dict[str, UUID],
    ) -> None:
        """Change the media items that exist already, and record what changed."""
        entries: dict[UUID, tuple[Entry, Source | None]] = {}
        for entry in changed:
            source = known.get(entry.key)
            item = source.media_item_id if source else matched.get(entry.key)
            if item is not None:
                entries[item] = entry, source
        for row in await work.connection.fetch(ITEMS, list(entries)):
            await self._change(work, row, *entries[row["id"]])

    async def _change(
        self, work: Recorder, row: asyncpg.Record, entry: Entry, source: Source | None
    ) -> None:
        said = source.changes(entry) if source else {}
        missing = {
            name: getattr(entry, name)
            for name in ITEM_FIELDS
            if row[name] is None and getattr(entry, name) is not None
        }
        changes = {
            name: (row[name], value)
            for name, value in {**said, **missing}.items()
            if name in ITEM_FIELDS and value != row[name]
        }
        item = {
            **dict(row),
            "tvdb_id": entry.tvdb_id,
            **{name: new for name, (_, new) in changes.items()},
        }
        switched = row["wanted"] is not None and row["wanted"] != row["monitored"]
        if source is not None and source.monitored == entry.monitored:
            switched = False
        item["monitored"] = row["wanted"] if switched else row["monitored"]
        if not changes and not switched:
            return
        values = [item[name] for name in (*ITEM_FIELDS, "monitored")]
        await work.connection.execute(UPDATE, row["id"], *values)
        facts = self._facts(item)
        if changes:
            await work.record(self._envelope(MediaItemUpdated(**facts, changes=changes), row["id"]))
        if switched:
            await work.record(self._envelope(MediaItemMonitoringChanged(**facts), row["id"]))

    async def _note_missing(self, keys: Sequence[str]) -> bool:
        """Note since when items are missing. The listed ones were marked as present."""
        async with self._outbox.transaction() as work:
            await work.connection.execute(LOCK, self._app)
            missing = await work.connection.fetch(MISSING, self._app, keys)
            await work.connection.execute(DONE, self._app)
        return bool(missing)

    async def _remove_some(self) -> bool:
        """Remove items that have been missing for a while. Returns whether there may be more."""
        async with self._outbox.transaction() as work:
            await work.connection.execute(LOCK, self._app)
            gone = await work.connection.fetch(GONE, self._app, GONE_AFTER)
            owned = {
                row["media_item_id"]: row for row in gone if row["owns"] and row["media_item_id"]
            }
            heirs = await work.connection.fetch(INHERIT, list(owned))
            orphans = owned.keys() - {row["media_item_id"] for row in heirs}
            items = await work.connection.fetch(DELETE, list(orphans))
            await work.record(*(self._removed(item, owned[item["id"]]) for item in items))
        return len(gone) == CHUNK

    def _added(self, entry: Entry, item: UUID, mark: dict[str, Any]) -> Envelope:
        facts = self._facts(msgspec.structs.asdict(entry))
        envelope = self._envelope(MediaItemAdded(**facts), item)
        return msgspec.structs.replace(envelope, extensions=mark)

    def _removed(self, item: asyncpg.Record, source: asyncpg.Record) -> Envelope:
        facts = self._facts({**item, "tvdb_id": source["tvdb_id"]})
        event = MediaItemRemoved(**facts, files_deleted=source["files_deleted"])
        return self._envelope(event, item["id"])

    def _facts(self, item: dict[str, Any]) -> dict[str, Any]:
        """Return the fields that every event of a media item has."""
        return {
            "media_type": self._type,
            "monitored": item["monitored"],
            **{name: item[name] for name in FIELDS},
        }

    def _envelope(self, event: Event, item: UUID) -> Envelope:
        envelope = Envelope.of(
            fitted(event),
            actor=Actor("system", self._app),
            resource=Resource("media_item", str(item)),
        )
        return msgspec.structs.replace(envelope, source=f"mediabus/{self._app}")

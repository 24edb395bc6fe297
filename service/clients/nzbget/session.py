"""A session with NZBGet: what it is asked for, and what it is told to do."""

import base64
import contextlib
import os
import re
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final, NoReturn

from schemas.status import ItemId, Phase
from service.clients.http import HttpSettings, basic_auth, http_session
from service.clients.nzb import file_name, nzb_for
from service.clients.nzbget.rpc import Rpc, rpc_url
from service.clients.nzbget.states import (
    FORCED,
    GONE,
    HISTORY,
    QUEUE,
    Finished,
    Group,
    LogLine,
    Option,
    State,
    finished,
    outcome,
    queued,
)
from service.clients.port import (
    ClientRefused,
    DownloadClient,
    Observation,
    Snapshot,
    Source,
)

EXPLAINED: Final = 10
"""Failures, the newest first, whose logs are read at once; older ones have their word alone."""

NEWS_SERVER: Final = re.compile(r"Server\d+\.(Host|Name)")
"""The options that a line of the log names when a news server is its matter."""

TROUBLE_LASTS: Final = 60
"""Seconds for which a line of the log explains why nothing arrives."""

CANNOT_DELETE: Final = (
    "NZBGet does not delete the files of a finished download; remove it without them"
)
CANNOT_KEEP: Final = (
    "NZBGet deletes the files of a failed download with it; remove it with its files"
)


class NzbGetSettings(HttpSettings, frozen=True, kw_only=True, tag="nzbget"):
    """``url`` is that of the web page, with the path if a reverse proxy adds one. The user must be
    NZBGet's ControlUsername: the restricted one may not command."""

    protocol = "usenet"

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[DownloadClient]:
        headers = {}
        if self.username or self.password:
            headers["Authorization"] = basic_auth(self.username, self.password)
        url = rpc_url(self.url)
        async with http_session(url, "NZBGet", self, headers) as http:
            yield NzbGet(Rpc(http), self)


class NzbGet:
    """A session with one NZBGet, as ``DownloadClient`` says; made by its settings."""

    def __init__(self, rpc: Rpc, settings: NzbGetSettings) -> None:
        self._rpc = rpc
        self._settings = settings
        self._looked_at: float | None = None
        self._listed: set[int] = set()  # what was there when last seen
        self._arrived: dict[int, int] = {}  # and the bytes of what was in the queue
        self._explained: dict[int, str] = {}  # failures and what the log says of them

    async def version(self) -> str:
        return await self._rpc.ask(str, "version")

    async def observe(self) -> Observation:
        now = time.monotonic()
        state = await self._rpc.ask(State, "status")
        groups, entries = await self._both()
        trouble = await self._trouble(groups, state)
        await self._explain(entries)
        client = self._settings.client_name
        items = {group.nzb_id: queued(client, group, state, trouble) for group in groups}
        for entry in entries:
            items[entry.nzb_id] = finished(client, entry, self._explained.get(entry.nzb_id, ""))
        since, self._looked_at = now - (self._looked_at or now), now
        return Snapshot(list(items.values()), restarted=state.up_time_sec < since)

    async def _both(self) -> tuple[list[Group], list[Finished]]:
        """Queue and history. An entry is in one of them; in this order none that ends between the
        two questions is missed. One that goes back to the queue then would be: so if one that was
        there is in neither, the queue is asked again."""
        groups = await self._rpc.ask(list[Group], "listgroups", 0)
        history = await self._rpc.ask(list[Finished], "history", False)
        before, self._listed = self._listed, {entry.nzb_id for entry in (*groups, *history)}
        if before - self._listed:
            groups = await self._rpc.ask(list[Group], "listgroups", 0)
            self._listed |= {group.nzb_id for group in groups}
        return groups, [entry for entry in history if entry.status != GONE]

    async def _trouble(self, groups: Sequence[Group], state: State) -> str:
        """Why nothing has arrived since the last look; an account refused or a news server away
        is only in the log, and no failure. The log is that of all downloads: what is the trouble
        of one, as a folder that cannot be made, names no news server."""
        before, self._arrived = self._arrived, {it.nzb_id: it.arrived for it in groups}
        stuck = [
            group
            for group in groups
            if group.status == "DOWNLOADING" and before.get(group.nzb_id) == group.arrived
        ]
        if not stuck:
            return ""
        options = await self._rpc.ask(list[Option], "config")
        servers = [it.value for it in options if it.value and NEWS_SERVER.fullmatch(it.name)]
        lines = await self._rpc.ask(list[LogLine], "log", 0, 50)
        recent = [line for line in lines if line.time > state.server_time - TROUBLE_LASTS]
        errors = (line.text for line in reversed(recent) if line.kind == "ERROR")
        return next((text for text in errors if any(name in text for name in servers)), "")

    async def _explain(self, entries: Sequence[Finished]) -> None:
        """What the logs of failed downloads say, each read once; the history's newest are first."""
        failed = [it.nzb_id for it in entries if outcome(it.status)[0] is Phase.FAILED]
        new = [number for number in failed if number not in self._explained]
        self._explained = {number: self._explained.get(number, "") for number in failed}
        for number in new[:EXPLAINED]:
            self._explained[number] = await self._why(number)

    async def _why(self, number: int) -> str:
        """The warnings and errors of a download's log, and what its unpacker says of a password."""
        lines = await self._rpc.ask(list[LogLine], "loadlog", number, 0, 1000)
        told = [
            line.text.strip()
            for line in lines
            if line.kind in ("WARNING", "ERROR") or "password" in line.text.lower()
        ]
        return re.sub(r"errno (\d+)", _errno, "; ".join(told[-5:]))[:500]

    async def add(self, source: Source, *, title: str, category: str | None) -> ItemId:
        nzb = nzb_for("NZBGet", source)
        # Its JSON has no letters beyond U+FFFF: the folder's name would not be told as it is.
        name = re.sub(r"[\U00010000-\U0010ffff]", "_", file_name(nzb.name or title))
        content = base64.b64encode(nzb.content).decode()
        # ALL: only the very same articles are a duplicate, not whatever has the same name.
        terms = (category or "", 0, False, False, "", 0, "ALL")
        number = await self._rpc.ask(int, "append", f"{name}.nzb", content, *terms)
        if number <= 0:
            raise ClientRefused(f"NZBGet does not take {name!r}; its own log says why")
        return await self._accepted(number)

    async def _accepted(self, number: int) -> ItemId:
        """NZBGet gives any bytes a number. What it did not like is in the history at once: that is
        taken out again, and said."""
        entry = await self._entry(number)
        if entry is not None and HISTORY.get(entry.status) == "rejected":
            why = await self._why(number)
            await self._edit("HistoryFinalDelete", number)
            raise ClientRefused(f"NZBGet says {entry.status}: {why or 'it cannot use this nzb'}")
        return ItemId(str(number))

    async def pause(self, item: ItemId) -> None:
        await self._edit("GroupPause", (await self._queued(item, "pause")).nzb_id)

    async def resume(self, item: ItemId) -> None:
        group = await self._queued(item, "resume")
        if (await self._rpc.ask(State, "status")).download_paused and group.max_priority < FORCED:
            raise ClientRefused("NZBGet as a whole is paused: resume it there")
        await self._edit("GroupResume", group.nzb_id)
        # As its own page does: recovery files are fetched only when they are needed.
        await self._edit("GroupPauseExtraPars", group.nzb_id)

    async def remove(self, item: ItemId, *, delete_files: bool) -> None:
        number = self._number(item)
        if group := await self._group(number):
            if QUEUE.get(group.status) is Phase.PROCESSING:
                raise ClientRefused("NZBGet is post-processing this download; remove it after that")
            await self._edit("GroupFinalDelete" if delete_files else "GroupParkDelete", number)
        elif entry := await self._entry(number):
            if entry.status == GONE:
                return
            if entry.arrived and entry.files_go_with_it is not delete_files:
                raise ClientRefused(CANNOT_DELETE if delete_files else CANNOT_KEEP)
            await self._edit("HistoryFinalDelete", number)

    async def _queued(self, item: ItemId, verb: str) -> Group:
        """The item's entry of the queue, if it still downloads."""
        number = self._number(item)
        if group := await self._group(number):
            if QUEUE.get(group.status) is not Phase.PROCESSING:
                return group
            raise ClientRefused(f"NZBGet has downloaded {item} already: nothing to {verb}")
        entry = await self._entry(number)
        if entry is None or entry.status == GONE:
            self._has_not(item)
        raise ClientRefused(f"NZBGet has finished {item} already: nothing to {verb}")

    async def _group(self, number: int) -> Group | None:
        groups = await self._rpc.ask(list[Group], "listgroups", 0)
        return next((group for group in groups if group.nzb_id == number), None)

    async def _entry(self, number: int) -> Finished | None:
        entries = await self._rpc.ask(list[Finished], "history", False)
        return next((entry for entry in entries if entry.nzb_id == number), None)

    async def _edit(self, command: str, number: int) -> None:
        """One command of editqueue, which answers whether there was anything to do it to."""
        if not await self._rpc.ask(bool, "editqueue", command, "", [number]):
            self._has_not(ItemId(str(number)))

    def _number(self, item: ItemId) -> int:
        if not re.fullmatch(r"[1-9][0-9]{0,8}", item):
            self._has_not(item)
        return int(item)

    def _has_not(self, item: ItemId) -> NoReturn:
        raise ClientRefused(f"NZBGet has no download {item!r}")


def _errno(found: re.Match[str]) -> str:
    """The number with its words, which NZBGet leaves out."""
    return f"{found[0]} ({os.strerror(int(found[1]))})"

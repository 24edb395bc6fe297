"""A session with NZBGet: its queue and history, and the commands that change them."""

import asyncio
import base64
import contextlib
import os
import re
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final, NoReturn

from mediabus.schemas.status import ItemId, Phase
from mediabus.service.clients.category import checked_category
from mediabus.service.clients.http import HttpSettings, basic_auth, http_session
from mediabus.service.clients.nzb import file_name, nzb_for
from mediabus.service.clients.nzbget.rpc import Rpc, rpc_url
from mediabus.service.clients.nzbget.states import (
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
    lack_of_space,
    outcome,
    queued,
)
from mediabus.service.clients.port import (
    ClientRefused,
    DownloadClient,
    Observation,
    Snapshot,
    Source,
)

EXPLAINED: Final = 10
"""Failures whose logs are read in one poll, newest first. Older ones keep their status only."""

NEWS_SERVER: Final = re.compile(r"Server\d+\.(Host|Name)")
"""The options with the names of news servers, by which a log line about one is recognized."""

TROUBLE_LASTS: Final = 60
"""Seconds for which a log line explains why nothing arrives."""

OPTIONS_LAST: Final = 60.0
"""Seconds for which NZBGet's settings are cached."""

CANNOT_DELETE: Final = (
    "NZBGet does not delete the files of a finished download. Remove it without its files"
)
CANNOT_KEEP: Final = (
    "NZBGet always deletes the files of a failed download. Remove it with its files"
)


class NzbGetSettings(HttpSettings, frozen=True, kw_only=True, tag="nzbget"):
    """The settings of an NZBGet.

    ``url`` is that of the web page, including the path of a reverse proxy. ``username`` must be
    NZBGet's ControlUsername: the restricted user may not change downloads.
    """

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
    """A session with one NZBGet, opened by ``NzbGetSettings.connect``. See ``DownloadClient``."""

    def __init__(self, rpc: Rpc, settings: NzbGetSettings) -> None:
        self._rpc = rpc
        self._settings = settings
        self._polled_at: float | None = None
        self._known_options: list[Option] = []
        self._options_at = float("-inf")
        self._listed: set[int] = set()  # the ids of the last poll
        self._arrived: dict[int, int] = {}  # downloaded bytes in the queue at the last poll
        self._explained: dict[int, str] = {}  # failures, with the lines of their logs

    async def version(self) -> str:
        return await self._rpc.ask(str, "version")

    async def observe(self) -> Observation:
        now = time.monotonic()
        state = await self._rpc.ask(State, "status")
        groups, entries = await self._both()
        trouble = await self._trouble(groups, state)
        held = await self._held(state) if groups else ""
        await self._explain(entries)
        client = self._settings.client_name
        items = {group.nzb_id: queued(client, group, state, trouble, held) for group in groups}
        for entry in entries:
            items[entry.nzb_id] = finished(client, entry, self._explained.get(entry.nzb_id, ""))
        restarted = self._was_restarted(state, now)
        self._polled_at = now
        return Snapshot(list(items.values()), restarted)

    def _was_restarted(self, state: State, now: float) -> bool:
        """Return whether NZBGet was started after the last poll."""
        if self._polled_at is None or state.up_time_sec is None:
            return False
        return state.up_time_sec < now - self._polled_at

    async def _both(self) -> tuple[list[Group], list[Finished]]:
        """Return queue and history.

        Each entry is in one of them. Requesting the queue first finds all that finish in between.
        An entry that returns to the queue in between is in neither: then the queue is requested
        again.
        """
        groups = await self._rpc.ask(list[Group], "listgroups", 0)
        history = await self._rpc.ask(list[Finished], "history", False)
        before = self._listed
        self._listed = {entry.nzb_id for entry in (*groups, *history)}
        if before - self._listed:
            groups = await self._rpc.ask(list[Group], "listgroups", 0)
            self._listed |= {group.nzb_id for group in groups}
        return groups, [entry for entry in history if entry.status != GONE]

    async def _trouble(self, groups: Sequence[Group], state: State) -> str:
        """Return the log line about a news server that explains why nothing arrives.

        A refused account or an unreachable news server fails no download and is only in the log.
        """
        if not self._is_stuck(groups):
            return ""
        errors = await self._recent_errors(state)
        servers = await self._news_servers()
        return next((text for text in errors if any(name in text for name in servers)), "")

    def _is_stuck(self, groups: Sequence[Group]) -> bool:
        """Return whether a running download has received nothing since the last poll."""
        before = self._arrived
        self._arrived = {group.nzb_id: group.arrived for group in groups}
        return any(
            group.status == "DOWNLOADING" and before.get(group.nzb_id) == group.arrived
            for group in groups
        )

    async def _recent_errors(self, state: State) -> list[str]:
        """Return the latest errors of the common log, newest first."""
        lines = await self._rpc.ask_aside(list[LogLine], [], "log", 0, 50)
        since = state.server_time - TROUBLE_LASTS
        return [line.text for line in reversed(lines) if line.kind == "ERROR" and line.time > since]

    async def _news_servers(self) -> list[str]:
        """Return the names and hosts of the news servers, which log lines about them contain.

        The log is that of all downloads: a line about one download names no news server.
        """
        options = await self._options()
        servers = (option for option in options if NEWS_SERVER.fullmatch(option.name))
        return [server.value for server in servers if server.value]

    async def _held(self, state: State) -> str:
        """Return why NZBGet paused itself; empty if it did not."""
        return lack_of_space(state, await self._options()) if state.download_paused else ""

    async def _options(self) -> list[Option]:
        """Return NZBGet's settings. There are many, so they are cached for a minute."""
        now = time.monotonic()
        if now - self._options_at > OPTIONS_LAST:
            self._known_options = await self._rpc.ask_aside(list[Option], [], "config")
            self._options_at = now
        return self._known_options

    async def _explain(self, entries: Sequence[Finished]) -> None:
        """Read the logs of failed downloads, each once, newest first as in the history."""
        failed = [entry.nzb_id for entry in entries if outcome(entry.status)[0] is Phase.FAILED]
        new = [number for number in failed if number not in self._explained]
        self._explained = {number: self._explained.get(number, "") for number in failed}
        for number in new[:EXPLAINED]:
            self._explained[number] = await self._why(number)

    async def _why(self, number: int) -> str:
        """Return the last warnings and errors of a download's log, and lines about a password."""
        lines = await self._rpc.ask_aside(list[LogLine], [], "loadlog", number, 0, 1000)
        relevant = [
            line.text.strip()
            for line in lines
            if line.kind in ("WARNING", "ERROR") or "password" in line.text.lower()
        ]
        return re.sub(r"\berrno (\d{1,4})\b", _errno, "; ".join(relevant[-5:]))[:500]

    async def add(self, source: Source, *, title: str, category: str | None) -> ItemId:
        category = checked_category("NZBGet", category)
        nzb = await asyncio.to_thread(nzb_for, "NZBGet", source)
        # NZBGet's JSON has no characters above U+FFFF: it would report another name of the folder.
        name = re.sub(r"[\U00010000-\U0010ffff]", "_", file_name(nzb.name or title))
        content = base64.b64encode(nzb.content).decode()
        # ALL: only an NZB with the same articles is a duplicate, not one with the same name.
        terms = (category or "", 0, False, False, "", 0, "ALL")
        number = await self._rpc.ask(int, "append", f"{name}.nzb", content, *terms)
        if number <= 0:
            raise ClientRefused(f"NZBGet did not accept {name!r}. Its log has the reason")
        return await self._accepted(number)

    async def _accepted(self, number: int) -> ItemId:
        """Return the id of a new download.

        NZBGet gives any bytes an id, and moves what it rejects to the history at once.

        Raises:
            ClientRefused: the NZB was rejected. Its entry is removed from the history.
        """
        entry = await self._entry(number)
        if entry is not None and HISTORY.get(entry.status) == "rejected":
            why = await self._why(number)
            await self._edit("HistoryFinalDelete", number)
            raise ClientRefused(
                f"NZBGet refused: {entry.status}: {why or 'it cannot use this nzb'}"
            )
        return ItemId(str(number))

    async def pause(self, item: ItemId) -> None:
        await self._edit("GroupPause", (await self._queued(item, "pause")).nzb_id)

    async def resume(self, item: ItemId) -> None:
        group = await self._queued(item, "resume")
        if (await self._rpc.ask(State, "status")).download_paused and group.max_priority < FORCED:
            raise ClientRefused("The whole of NZBGet is paused. Resume it in its web page")
        await self._edit("GroupResume", group.nzb_id)
        # As NZBGet's web page does: recovery files are downloaded only when they are needed.
        await self._edit("GroupPauseExtraPars", group.nzb_id)

    async def remove(self, item: ItemId, *, delete_files: bool) -> None:
        number = self._number(item)
        if group := await self._group(number):
            if QUEUE.get(group.status) is Phase.PROCESSING:
                raise ClientRefused("NZBGet is post-processing this download. Remove it afterwards")
            await self._edit("GroupFinalDelete" if delete_files else "GroupParkDelete", number)
        elif entry := await self._entry(number):
            if entry.status == GONE:
                return
            if entry.arrived and entry.files_go_with_it is not delete_files:
                raise ClientRefused(CANNOT_DELETE if delete_files else CANNOT_KEEP)
            await self._edit("HistoryFinalDelete", number)

    async def _queued(self, item: ItemId, verb: str) -> Group:
        """Return the entry of a download that has not finished.

        Raises:
            ClientRefused: the download has finished, or does not exist.
        """
        number = self._number(item)
        if group := await self._group(number):
            if QUEUE.get(group.status) is not Phase.PROCESSING:
                return group
            raise ClientRefused(f"NZBGet has already downloaded {item}: cannot {verb} it")
        entry = await self._entry(number)
        if entry is None or entry.status == GONE:
            self._raise_unknown(item)
        raise ClientRefused(f"NZBGet has already finished {item}: cannot {verb} it")

    async def _group(self, number: int) -> Group | None:
        groups = await self._rpc.ask(list[Group], "listgroups", 0)
        return next((group for group in groups if group.nzb_id == number), None)

    async def _entry(self, number: int) -> Finished | None:
        entries = await self._rpc.ask(list[Finished], "history", False)
        return next((entry for entry in entries if entry.nzb_id == number), None)

    async def _edit(self, command: str, number: int) -> None:
        """Send one command of editqueue, which returns false for an unknown download."""
        if not await self._rpc.ask(bool, "editqueue", command, "", [number]):
            self._raise_unknown(ItemId(str(number)))

    def _number(self, item: ItemId) -> int:
        if not re.fullmatch(r"[1-9][0-9]{0,9}", item):
            self._raise_unknown(item)
        return int(item)

    def _raise_unknown(self, item: ItemId) -> NoReturn:
        raise ClientRefused(f"NZBGet has no download {item!r}")


def _errno(found: re.Match[str]) -> str:
    """Append the system's text to an error number, which NZBGet omits."""
    return f"{found[0]} ({os.strerror(int(found[1]))})"

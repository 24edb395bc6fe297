"""A session with SABnzbd: its queue and history, and the commands that change them."""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final, NoReturn

import msgspec

from mediabus.schemas.status import DownloadStatus, ItemId, Phase
from mediabus.service.clients.category import checked_category
from mediabus.service.clients.http import HttpSettings, http_session
from mediabus.service.clients.nzb import file_name, nzb_for, usenet_reason
from mediabus.service.clients.port import (
    ClientRefused,
    ClientUnavailable,
    DownloadClient,
    Observation,
    Snapshot,
    Source,
)
from mediabus.service.clients.sabnzbd.rpc import (
    ConfigReply,
    HistoryReply,
    QueueReply,
    Rpc,
    StateReply,
    Version,
    Warned,
    api_url,
)
from mediabus.service.clients.sabnzbd.states import (
    DELETED,
    HISTORY,
    KIB,
    History,
    Past,
    Queue,
    Slot,
    past,
    phase_of,
    queued,
)
from mediabus.service.clients.sabnzbd.warnings import (
    RELATED,
    WarningList,
    added,
    first_line,
    of_its_start,
    shown,
)
from mediabus.service.clients.tolerant import size_of

EVERYTHING: Final = "1000000"
"""Entries of the history to return. Without a number, SABnzbd returns the ten newest."""

FRESH: Final = 60.0
"""Seconds for which an answer "the history is unchanged" is trusted. SABnzbd's counter of changes
starts at 1 again after a restart, and can reach the number of the last poll."""

DISCARD: Final = 1
"""The value of SABnzbd's duplicate settings that discards duplicates."""

WORDS_FOR_MANY: Final = frozenset({"all", "completed", "failed"})
"""Values that mode=queue and mode=history take for several downloads (api.py)."""

CANNOT_DELETE: Final = (
    "SABnzbd does not delete the files of a finished download. Remove it without its files"
)


class SabnzbdSettings(HttpSettings, frozen=True, kw_only=True, tag="sabnzbd"):
    """The settings of a SABnzbd.

    ``url`` is that of the web page, including the path of a reverse proxy. ``password`` is the API
    key. The login of a proxy goes into ``url``.
    """

    protocol = "usenet"

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[DownloadClient]:
        url = api_url(self.url)
        async with http_session(url, "SABnzbd", self) as http:
            yield Sabnzbd(Rpc(http, self.password), self)


class Sabnzbd:
    """A session with one SABnzbd, opened by ``SabnzbdSettings.connect``. See ``DownloadClient``."""

    def __init__(self, rpc: Rpc, settings: SabnzbdSettings) -> None:
        self._rpc = rpc
        self._settings = settings
        self._observing = asyncio.Lock()
        self._was_observed = False
        self._was_unreachable = False  # since the last observation
        self._history: tuple[History, float] | None = None  # and the time of its full poll
        self._listed: set[str] = set()  # the ids of the last poll
        self._left: dict[str, int] = {}  # remaining bytes in the queue at the last poll
        self._explained: dict[str, str] = {}  # failures, with the warnings about them
        self._warnings = WarningList(rpc)
        self._labels: dict[str, set[str]] = {}  # of downloads that run: these do not pause them

    async def version(self) -> str:
        return (await self._rpc.ask(Version, "version")).version

    async def observe(self) -> Observation:
        async with self._observing:
            try:
                queue, history = await self._both()
            except ClientUnavailable as error:
                self._was_unreachable = self._was_observed and error.reason == "connection"
                raise
            statuses = await self._in_queue(queue)
            await self._explain(history.slots)
            warning = shown(await self._warnings.when_counted(queue.have_warnings))
        items = {status.item: status for status in statuses}
        for entry in history.slots:
            status = past(self._settings.client_name, entry, self._explained.get(entry.nzo_id, ""))
            items[status.item] = status
        # SABnzbd does not report its uptime: an outage counts as a restart.
        restarted = self._was_unreachable
        self._was_unreachable = False
        self._was_observed = True
        return Snapshot(list(items.values()), restarted, warning)

    async def _both(self) -> tuple[Queue, History]:
        """Return queue and history.

        Between download and post-processing, and when it is retried, an entry is in neither for a
        moment. If one disappears, both are requested again.
        """
        queue, history = await self._queue(), await self._changed_history()
        if self._listed - _ids(queue, history):
            self._history = None
            history = await self._changed_history()
            queue = await self._queue()
        self._listed = _ids(queue, history)
        return queue, history

    async def _queue(self) -> Queue:
        queue = (await self._rpc.ask(QueueReply, "queue")).queue
        there = [slot for slot in queue.slots if slot.status != DELETED]
        return msgspec.structs.replace(queue, slots=there)

    async def _changed_history(self) -> History:
        known = self._history
        self._history = None  # if this poll fails, the next one requests the whole history
        now = time.monotonic()
        if known is not None and now - known[1] < FRESH:
            answer = await self._ask_history(unless=known[0].last_history_update)
            if answer is None:
                self._history = known
                return known[0]
        else:
            answer = await self._ask_history()
        if answer is None:
            self._rpc.raise_protocol_error(
                "a request for the whole history is answered with no change"
            )
        self._history = (answer, now)
        return answer

    async def _ask_history(self, *, unless: int = 0, only: str = "") -> History | None:
        """Return the history, or only the entry ``only``.

        None if the number of the last change still is ``unless``; it is never 0.
        """
        answer = await self._rpc.ask(
            HistoryReply,
            "history",
            limit=EVERYTHING,
            last_history_update=str(unless),
            nzo_ids=only,
        )
        return answer.history if isinstance(answer.history, History) else None

    async def _in_queue(self, queue: Queue) -> list[DownloadStatus]:
        before = self._left
        self._left = {slot.nzo_id: slot.left for slot in queue.slots}
        moving = {item for item, left in self._left.items() if before.get(item, left) != left}
        downloading = (slot.nzo_id for slot in queue.slots if slot.status == "Downloading")
        first = next(downloading, "")
        trouble = await self._trouble(queue, stuck=first in before and first not in moving)
        statuses = []
        for slot in queue.slots:
            in_turn = slot.nzo_id == first or slot.nzo_id in moving
            phase = phase_of(slot, paused=queue.paused, in_turn=in_turn)
            status = queued(
                self._settings.client_name,
                slot,
                phase,
                rate=size_of(queue.kbpersec, KIB) if slot.nzo_id == first else 0,
                trouble=trouble,
                by_client=self._is_paused_by_client(slot) or (queue.paused and bool(trouble)),
            )
            statuses.append(status)
        self._labels = {slot.nzo_id: self._labels[slot.nzo_id] for slot in queue.slots}
        return statuses

    def _is_paused_by_client(self, slot: Slot) -> bool:
        """Return whether SABnzbd itself paused the download: then a label appears with the pause.

        Labels with a number are about a wait.
        """
        labels = {label for label in slot.labels if not re.search(r"\d", label)}
        before = self._labels.setdefault(slot.nzo_id, set())
        if slot.status == "Paused":
            return bool(labels - before)
        before |= labels
        return False

    async def _trouble(self, queue: Queue, *, stuck: bool) -> str:
        """Return why nothing arrives; no download fails for it.

        Causes are news servers that are unreachable or refuse the account, a full disk, for which
        SABnzbd pauses itself, and programs that it needs.
        """
        if queue.paused:
            newest = shown((await self._warnings.when_counted(queue.have_warnings))[-1:]) or ""
            return newest if usenet_reason(newest) == "disk_full" else ""
        if not stuck:
            return ""
        servers = await self._rpc.ask_aside(StateReply(), "status", skip_dashboard="1")
        problems = [server.servererror or server.serverwarning for server in servers.status.servers]
        warnings = await self._warnings.when_counted(queue.have_warnings)
        return "; ".join(filter(None, problems)) or shown(of_its_start(warnings)) or ""

    async def _explain(self, entries: Sequence[Past]) -> None:
        """Look up the warnings about failures without a specific reason, once for each."""
        vague = {
            entry.nzo_id: entry
            for entry in entries
            if HISTORY.get(entry.status) is Phase.FAILED
            and usenet_reason(entry.fail_message or "") == "client_error"
        }
        new = vague.keys() - self._explained.keys()
        self._explained = {item: self._explained.get(item, "") for item in vague}
        if new:
            warnings = await self._warnings.ask()
            for item in new:
                self._explained[item] = _about(vague[item], warnings)

    async def add(self, source: Source, *, title: str, category: str | None) -> ItemId:
        category = checked_category("SABnzbd", category)
        nzb = await asyncio.to_thread(nzb_for, "SABnzbd", source)
        name = file_name(nzb.name or title)
        before = await self._warnings.ask()
        done = await self._rpc.command("addfile", nzb=nzb, nzbname=name, cat=category or "*")
        if not done.nzo_ids:
            raise ClientRefused(await self._why_not(before))
        return ItemId(done.nzo_ids[0])

    async def _why_not(self, before: Sequence[Warned]) -> str:
        """Return why SABnzbd did not keep an nzb, as far as it reports that."""
        fresh = added(before, await self._warnings.ask())
        if fresh:
            return f"SABnzbd refused: {first_line(fresh[-1])}"
        reply = await self._rpc.ask_aside(ConfigReply(), "get_config", section="misc")
        if DISCARD in (reply.config.misc.no_dupes, reply.config.misc.no_smart_dupes):
            return (
                "SABnzbd did not keep this nzb and gives no reason. It is set to discard "
                "duplicates: it may have this one already, in its queue, history or backup"
            )
        return "SABnzbd did not keep this nzb and gives no reason; its log may have one"

    async def pause(self, item: ItemId) -> None:
        await self._queued(item, "pause")
        await self._rpc.command("queue", name="pause", value=item)

    async def resume(self, item: ItemId) -> None:
        queue, slot = await self._queued(item, "resume")
        if queue.paused and not slot.is_forced:
            raise ClientRefused("The whole of SABnzbd is paused. Resume it in its web page")
        await self._rpc.command("queue", name="resume", value=item)

    async def remove(self, item: ItemId, *, delete_files: bool) -> None:
        single = self._single(item)
        files = "1" if delete_files else "0"
        if await self._slot(single):
            await self._rpc.command("queue", name="delete", value=single, del_files=files)
        elif entry := await self._entry(single):
            if delete_files and HISTORY.get(entry.status) is Phase.COMPLETED:
                raise ClientRefused(CANNOT_DELETE)
            await self._rpc.command("history", name="delete", value=single, del_files=files)

    async def _queued(self, item: ItemId, verb: str) -> tuple[Queue, Slot]:
        """Return the queue and the download's entry: SABnzbd reports success for unknown ids.

        Raises:
            ClientRefused: the download has finished, or does not exist.
        """
        found = await self._slot(self._single(item))
        if found is None:
            if await self._entry(item) is None:
                self._raise_unknown(item)
            raise ClientRefused(f"SABnzbd has already finished {item}: cannot {verb} it")
        return found

    async def _slot(self, item: ItemId) -> tuple[Queue, Slot] | None:
        queue = await self._queue()
        return next(((queue, slot) for slot in queue.slots if slot.nzo_id == item), None)

    async def _entry(self, item: ItemId) -> Past | None:
        history = await self._ask_history(only=item)
        return (
            next((entry for entry in history.slots if entry.nzo_id == item), None)
            if history
            else None
        )

    def _single(self, item: ItemId) -> ItemId:
        """Return the item if it can be the id of a single download.

        SABnzbd takes words such as ``all`` for every download, and commas for a list. The form of
        ids depends on the version: since 5.1 they are UUIDs.
        """
        if item.lower() in WORDS_FOR_MANY or not re.fullmatch(r"[^\s,\x00-\x1f\x7f]+", item):
            self._raise_unknown(item)
        return item

    def _raise_unknown(self, item: ItemId) -> NoReturn:
        raise ClientRefused(f"SABnzbd has no download {item!r}")


def _ids(queue: Queue, history: History) -> set[str]:
    return {slot.nzo_id for slot in queue.slots} | {entry.nzo_id for entry in history.slots}


def _about(entry: Past, warnings: Sequence[Warned]) -> str:
    """Return the first lines of warnings that name the download, from about when it failed."""
    if not entry.name:
        return ""
    near = [warned for warned in warnings if abs(warned.time - entry.completed) <= RELATED]
    named = re.compile(rf"(?<!\w){re.escape(entry.name)}(?!\w)")
    return "; ".join(first_line(warned) for warned in near if named.search(warned.text))[:500]

"""A session with SABnzbd: what it is asked for, and what it is told to do."""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final, NoReturn

import msgspec

from schemas.status import DownloadStatus, ItemId, Phase
from service.clients.http import HttpSettings, http_session
from service.clients.nzb import file_name, nzb_for, usenet_reason
from service.clients.port import (
    ClientRefused,
    ClientUnavailable,
    DownloadClient,
    Observation,
    Snapshot,
    Source,
)
from service.clients.sabnzbd.rpc import (
    HistoryReply,
    QueueReply,
    Rpc,
    StateReply,
    Version,
    Warned,
    Warnings,
    api_url,
)
from service.clients.sabnzbd.states import (
    DELETED,
    FORCE,
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

EVERYTHING: Final = "1000000"
"""How much of the history: without a number SABnzbd shows the ten newest."""

FRESH: Final = 60.0
"""Seconds for which "the history is unchanged" is believed: SABnzbd counts its changes from 1 again
after a restart, and may come to the number that we have."""

RELATED: Final = 60
"""Seconds between a failure and the warnings that explain it."""

CANNOT_DELETE: Final = (
    "SABnzbd does not delete the files of a finished download; remove it without them"
)


class SabnzbdSettings(HttpSettings, frozen=True, kw_only=True, tag="sabnzbd"):
    """``url`` is that of the web page, with the path if a reverse proxy adds one; ``password`` is
    the API key. A ``username`` is for a proxy that asks for one: then in ``url``."""

    protocol = "usenet"

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[DownloadClient]:
        url = api_url(self.url)
        async with http_session(url, "SABnzbd", self) as http:
            yield Sabnzbd(Rpc(http, self.password), self)


class Sabnzbd:
    """A session with one SABnzbd, as ``DownloadClient`` says; made by its settings."""

    def __init__(self, rpc: Rpc, settings: SabnzbdSettings) -> None:
        self._rpc = rpc
        self._settings = settings
        self._observing = asyncio.Lock()
        self._known = False  # it was observed before
        self._away = False  # and could not be asked since
        self._history: tuple[History, float] | None = None  # and when it was asked for in full
        self._listed: set[str] = set()  # what was there when last seen
        self._left: dict[str, int] = {}  # and the bytes to come of what was in the queue
        self._explained: dict[str, str] = {}  # failures and what the warnings say of them

    async def version(self) -> str:
        return (await self._rpc.ask(Version, "version")).version

    async def observe(self) -> Observation:
        async with self._observing:
            try:
                queue, history = await self._both()
            except ClientUnavailable as error:
                self._away = self._known and error.reason == "connection"
                raise
            statuses = await self._in_queue(queue)
            await self._explain(history.slots)
        items = {status.item: status for status in statuses}
        for entry in history.slots:
            status = past(self._settings.client_name, entry, self._explained.get(entry.nzo_id, ""))
            items[status.item] = status
        # It tells nobody for how long it runs: one that was away counts as started anew.
        restarted, self._away, self._known = self._away, False, True
        return Snapshot(list(items.values()), restarted)

    async def _both(self) -> tuple[Queue, History]:
        """Queue and history. An entry is in one of them, or for a moment, between download and
        post-processing, or when it is tried again, in neither: then both are asked again."""
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
        known, self._history = self._history, None
        now = time.monotonic()
        if known is not None and now - known[1] < FRESH:
            answer = await self._ask_history(unless=known[0].last_history_update)
            if answer is None:
                self._history = known
                return known[0]
        else:
            answer = await self._ask_history()
        if answer is None:
            self._rpc.misunderstood("asked for the history, it says that nothing changed")
        self._history = (answer, now)
        return answer

    async def _ask_history(self, *, unless: int = 0, only: str = "") -> History | None:
        """The history, perhaps of ``only`` one; None if it still is the one of number ``unless``,
        which is never 0."""
        answer = await self._rpc.ask(
            HistoryReply,
            "history",
            limit=EVERYTHING,
            last_history_update=str(unless),
            nzo_ids=only,
        )
        return answer.history if isinstance(answer.history, History) else None

    async def _in_queue(self, queue: Queue) -> list[DownloadStatus]:
        before, self._left = self._left, {slot.nzo_id: slot.left for slot in queue.slots}
        moving = {it.nzo_id for it in queue.slots if before.get(it.nzo_id, it.left) != it.left}
        first = next((it.nzo_id for it in queue.slots if it.status == "Downloading"), "")
        trouble = await self._trouble(queue, stuck=first in before and first not in moving)
        statuses = []
        for slot in queue.slots:
            in_turn = slot.nzo_id == first or slot.nzo_id in moving
            phase = phase_of(slot, paused=queue.paused, in_turn=in_turn)
            status = queued(
                self._settings.client_name,
                slot,
                phase,
                rate=round(queue.kbpersec * KIB) if slot.nzo_id == first else 0,
                trouble=trouble,
            )
            statuses.append(status)
        return statuses

    async def _trouble(self, queue: Queue, *, stuck: bool) -> str:
        """Why nothing arrives: news servers that are away or refuse us, or a full disk, for which
        SABnzbd pauses itself. None of it is a failure."""
        if queue.paused and queue.have_warnings:
            newest = (await self._rpc.ask(Warnings, "warnings")).warnings[-1:]
            return next((it.text for it in newest if usenet_reason(it.text) == "disk_full"), "")
        if not stuck or queue.paused:
            return ""
        servers = (await self._rpc.ask(StateReply, "status", skip_dashboard="1")).status.servers
        said = [server.servererror or server.serverwarning for server in servers]
        return "; ".join(filter(None, said))

    async def _explain(self, entries: Sequence[Past]) -> None:
        """What the warnings say of failures that say little themselves, asked once for each."""
        vague = {
            entry.nzo_id: entry
            for entry in entries
            if HISTORY.get(entry.status) is Phase.FAILED
            and usenet_reason(entry.fail_message or "") == "client_error"
        }
        new = vague.keys() - self._explained.keys()
        self._explained = {item: self._explained.get(item, "") for item in vague}
        if new:
            warnings = (await self._rpc.ask(Warnings, "warnings")).warnings
            for item in new:
                self._explained[item] = _about(vague[item], warnings)

    async def add(self, source: Source, *, title: str, category: str | None) -> ItemId:
        nzb = nzb_for("SABnzbd", source)
        name = file_name(nzb.name or title)
        done = await self._rpc.command("addfile", nzb=nzb, nzbname=name, cat=category or "*")
        if not done.nzo_ids:
            newest = (await self._rpc.ask(Warnings, "warnings")).warnings[-1:]
            words = newest[0].text if newest else "it cannot use this nzb"
            raise ClientRefused(f"SABnzbd says no: {words.splitlines()[0]}")
        return ItemId(done.nzo_ids[0])

    async def pause(self, item: ItemId) -> None:
        await self._queued(item, "pause")
        await self._rpc.command("queue", name="pause", value=item)

    async def resume(self, item: ItemId) -> None:
        queue, slot = await self._queued(item, "resume")
        if queue.paused and slot.priority != FORCE:
            raise ClientRefused("SABnzbd as a whole is paused: resume it there")
        await self._rpc.command("queue", name="resume", value=item)

    async def remove(self, item: ItemId, *, delete_files: bool) -> None:
        one = self._one(item)
        files = "1" if delete_files else "0"
        if await self._slot(one):
            await self._rpc.command("queue", name="delete", value=one, del_files=files)
        elif entry := await self._entry(one):
            if delete_files and HISTORY.get(entry.status) is Phase.COMPLETED:
                raise ClientRefused(CANNOT_DELETE)
            await self._rpc.command("history", name="delete", value=one, del_files=files)

    async def _queued(self, item: ItemId, verb: str) -> tuple[Queue, Slot]:
        """The item's entry of the queue, if it still downloads. SABnzbd says that it paused what it
        does not have."""
        found = await self._slot(self._one(item))
        if found is None:
            if await self._entry(item) is None:
                self._has_not(item)
            raise ClientRefused(f"SABnzbd has finished {item} already: nothing to {verb}")
        return found

    async def _slot(self, item: ItemId) -> tuple[Queue, Slot] | None:
        queue = await self._queue()
        return next(((queue, slot) for slot in queue.slots if slot.nzo_id == item), None)

    async def _entry(self, item: ItemId) -> Past | None:
        history = await self._ask_history(only=item)
        return next((it for it in history.slots if it.nzo_id == item), None) if history else None

    def _one(self, item: ItemId) -> ItemId:
        """The item, if it can be one download's id and nothing else: ``all`` and lists can not."""
        if not re.fullmatch(r"SABnzbd_nzo_\w+", item, re.ASCII):
            self._has_not(item)
        return item

    def _has_not(self, item: ItemId) -> NoReturn:
        raise ClientRefused(f"SABnzbd has no download {item!r}")


def _ids(queue: Queue, history: History) -> set[str]:
    return {slot.nzo_id for slot in queue.slots} | {entry.nzo_id for entry in history.slots}


def _about(entry: Past, warnings: Sequence[Warned]) -> str:
    """The first lines of the warnings that name the download, from about when it failed."""
    near = [it.text for it in warnings if abs(it.time - entry.completed) <= RELATED]
    named = re.compile(rf"(?<!\w){re.escape(entry.name)}(?!\w)")
    return "; ".join(text.splitlines()[0] for text in near if named.search(text))[:500]

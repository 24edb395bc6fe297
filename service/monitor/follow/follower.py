"""Follow the statuses of one client: decide what each one leads to, and do it.

The follower holds no state that matters: it compares the latest status with the row.
"""

import asyncio
import contextlib
import dataclasses
import datetime
import logging
from collections.abc import Sequence
from typing import Final

import asyncpg
import msgspec
from nats.aio.msg import Msg
from nats.js.kv import KV_DEL, KV_OP, KV_PURGE

from mediabus.runtime import metrics, tracing
from mediabus.runtime.postgres.database import AWAY, RESTORING, Pool
from mediabus.runtime.settings import MonitorSettings
from mediabus.schemas.decoding import NOT_JSON
from mediabus.schemas.status import ClientName, ClientStatus, DownloadStatus, ItemId, Protocol
from mediabus.schemas.subjects import STATUS_SUBJECT, item_of_key
from mediabus.service.clients.sane import is_item_id, sane
from mediabus.service.downloads import table
from mediabus.service.downloads.row import DownloadRow, Transition
from mediabus.service.monitor.follow.damping import Damper
from mediabus.service.monitor.follow.discovery import Discovery, Listing, Sighted
from mediabus.service.monitor.follow.lifecycle import (
    SETTLES_WITHIN,
    Gone,
    Hold,
    Step,
    is_untracked,
    next_step,
)
from mediabus.service.monitor.follow.reachability import Reachability
from mediabus.service.outbox.outbox import Outbox

log: Final = logging.getLogger("mediabus.monitor")


RECHECK_AFTER: Final = 60.0
"""Seconds after which a status that could not be handled is handled again."""

Rows = dict[tuple[str, str], DownloadRow]
"""The newest row of each client and item id."""


class InvalidStatus(Exception):
    """A value in the bucket is not a valid status; the message gives the reason."""


@dataclasses.dataclass(frozen=True)
class Untracked:
    """A status of a download that was added outside mediabus."""

    status: DownloadStatus


@dataclasses.dataclass(frozen=True)
class Tracked:
    """The row that a status belongs to, and the step that follows."""

    row: DownloadRow
    step: Step


def decide(
    row: DownloadRow | None,
    seen: DownloadStatus | Gone,
    shown_at: datetime.datetime,
    stalled_after: float,
) -> Untracked | Tracked | None:
    """Decide what a status leads to, given the newest row of its item. Pure.

    ``shown_at`` is the time of the status, ``stalled_after`` in seconds without a byte. None means
    that there is nothing to do.
    """
    if row is None:
        return Untracked(seen) if isinstance(seen, DownloadStatus) else None
    if isinstance(seen, Gone):
        if shown_at < row.created_at:  # an earlier download of the same item is gone
            return None
        return Tracked(row, next_step(row, seen, stalled_after))
    if not is_untracked(row):
        return Tracked(row, next_step(row, seen, stalled_after))
    # The status of a removed download may be older than its removal.
    return Untracked(seen) if shown_at > row.updated_at else None


class Follower:
    """Turn the statuses of one client into transitions.

    ``names`` are those of all clients in the settings. ``sighted`` is called when an untracked
    download is first seen.
    """

    def __init__(
        self,
        pool: Pool,
        outbox: Outbox,
        settings: MonitorSettings,
        *,
        protocol: Protocol,
        names: Sequence[str],
        listing: Listing,
        sighted: Sighted | None = None,
    ) -> None:
        self._pool = pool
        self._outbox = outbox
        self._stalled_after = settings.stalled_after
        self._reachability = Reachability(pool, outbox)
        self._discovery = Discovery(
            pool,
            outbox,
            listing,
            protocol=protocol,
            after=settings.discovered_after,
            names=names,
            sighted=sighted,
        )
        self._damper = Damper()
        self._last: dict[ItemId, DownloadStatus] = {}

    async def handle(self, messages: Sequence[Msg]) -> None:
        """Handle a batch of messages and acknowledge those that need no further check.

        The server redelivers the others later, and all of them while PostgreSQL is unreachable.
        """
        newest = {message.subject: message for message in messages}
        for message in messages:
            if newest[message.subject] is not message:
                await message.ack()
        try:
            rows = await self._rows(newest)
            for subject, message in newest.items():
                await self._handle_one(subject.removeprefix(STATUS_SUBJECT), message, rows)
        except (*AWAY, *RESTORING) as error:
            log.warning("PostgreSQL unreachable, will retry", extra={"reason": str(error)})
            await asyncio.sleep(0.5)
            for message in newest.values():
                if not message.is_acked:
                    await message.nak(delay=0.5)

    async def _rows(self, subjects: dict[str, Msg]) -> Rows:
        named = [item_of_key(subject.removeprefix(STATUS_SUBJECT)) for subject in subjects]
        usable = [name for name in named if name and is_item_id(name[1])]
        return await table.latest_by_item(self._pool, usable)

    async def _handle_one(self, key: str, message: Msg, rows: Rows) -> None:
        """Handle one message. One that fails is redelivered later and holds up no other."""
        try:
            hold = await self._act(key, message, rows)
            if hold:
                await message.nak(delay=hold.seconds)
            else:
                await message.ack()
        except (*AWAY, *RESTORING):
            raise
        except (*NOT_JSON, InvalidStatus) as error:  # a new value of the key is a new message
            log.warning(
                "invalid value in download_status", extra={"key": key, "reason": str(error)}
            )
            await message.ack()
        except Exception:
            log.exception("handling status failed, will retry", extra={"key": key})
            await message.nak(delay=RECHECK_AFTER)

    async def _act(self, key: str, message: Msg, rows: Rows) -> Hold | None:
        """Do what a message leads to. Returns when to check again, or None."""
        named = item_of_key(key)
        if named is None:
            await self._reachability.update(msgspec.json.decode(message.data, type=ClientStatus))
            return None
        seen = self._seen(named, message)
        shown_at = message.metadata.timestamp
        match decide(rows.get(named), seen, shown_at, self._stalled_after):
            case Untracked(status):
                hold = await self._discovery.consider(status, shown_at)
            case Tracked(row, step):
                hold = await self._step(row, step)
            case None:
                hold = None
        if isinstance(seen, Gone) and not hold:
            self._last.pop(named[1], None)
            self._discovery.forget(named[1])
        return hold

    def _seen(self, named: tuple[ClientName, ItemId], message: Msg) -> DownloadStatus | Gone:
        item = named[1]
        if not is_item_id(item):
            raise InvalidStatus("the key has no valid item id")
        if (message.headers or {}).get(KV_OP) in {KV_DEL, KV_PURGE}:
            return Gone(self._last.get(item))
        status = sane(msgspec.json.decode(message.data, type=DownloadStatus))
        if status.item != item:
            raise InvalidStatus("it is the status of another download")
        self._last[item] = status
        return status

    async def _step(self, row: DownloadRow, step: Step) -> Hold | None:
        """Do a step. After a transition, check again: another one may follow."""
        match step:
            case Transition() as transition:
                return await self._transition(row, transition)
            case Hold() as hold:
                return hold
            case None:
                return None

    async def _transition(self, row: DownloadRow, transition: Transition) -> Hold:
        """Make a transition, unless another process has changed the row."""
        transition = self._damper.damped(row, transition, asyncio.get_running_loop().time())
        try:
            with _traced(transition):
                if not await table.step(self._outbox, row, transition):
                    return Hold(0.1)
        except asyncpg.UniqueViolationError:
            return Hold(RECHECK_AFTER)  # another download of its media item is active
        for fact in transition.events:
            metrics.TRANSITIONS.labels(fact.event.type).inc()
        return Hold(SETTLES_WITHIN)


def _traced(transition: Transition) -> contextlib.AbstractContextManager[object]:
    """Open a span for a transition with events."""
    facts = transition.events
    return tracing.transition(facts[0].event.type) if facts else contextlib.nullcontext()

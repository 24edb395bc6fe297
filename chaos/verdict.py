"""The verdict: the ledger against ``events``."""

import asyncio
import collections
import dataclasses
import itertools
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg

from chaos.ledger import Entry, Operation, Published, Step
from service.runtime.database import Pool

LATE_WITHIN: Final = 60.0

EVENTS = """
SELECT id, stream_seq, type, resource_type, resource_id, correlation_id, data FROM events
"""
ITEMS = "SELECT id::text, title, monitored FROM media_items"
DOWNLOADS = "SELECT id::text, state FROM downloads"


class Epoch(NamedTuple):
    """Until JetStream lost its end: the ids that were in ``events`` by then, and the sequence of
    the last event that JetStream has kept."""

    stored: set[object]
    kept: int


LEADS_TO = {
    "download.initiated": "active",
    "download.paused": "paused",
    "download.resumed": "active",
    "download.failed": "failed",
    "download.removed": "removed",
}
"""What a download is after each event. One whose initiation was interrupted may fail, and no user
here removes any."""

FIRST = {"download.initiated", "download.failed"}


@dataclasses.dataclass
class Verdict:
    """``acknowledged`` and ``stored`` are events. What is wrong is named: ``lost`` was acknowledged
    and is not stored, ``twice`` is stored twice, ``misordered`` contradicts the event before it of
    the same resource, ``half_done`` are items whose events do not lead to their row, ``unasked``
    what nobody asked for."""

    acknowledged: int = 0
    stored: int = 0
    lost: list[str] = dataclasses.field(default_factory=list)
    twice: list[str] = dataclasses.field(default_factory=list)
    misordered: list[str] = dataclasses.field(default_factory=list)
    half_done: list[str] = dataclasses.field(default_factory=list)
    unasked: list[str] = dataclasses.field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.twice or self.misordered or self.half_done or self.unasked)


async def judge_in_time(
    pool: Pool, entries: Sequence[Entry], begun: int, epochs: Sequence[Epoch]
) -> Verdict:
    """The verdict as soon as nothing is missing, or when what is only late has had its time: the
    persister's stragglers, or an operation that its user no longer waits for."""
    deadline = time.monotonic() + LATE_WITHIN
    while True:
        verdict = await judge(pool, entries, begun, epochs)
        if not (verdict.lost or verdict.half_done) or time.monotonic() > deadline:
            return verdict
        await asyncio.sleep(1)


async def judge(
    pool: Pool, entries: Sequence[Entry], begun: int, epochs: Sequence[Epoch]
) -> Verdict:
    """Compares them as they are at one moment. ``begun`` is how many operations were;
    ``epochs`` ended whenever JetStream's sequences started again."""
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
        found = await connection.fetch(EVENTS)
        rows = {row["id"]: row for row in await connection.fetch(ITEMS)}
        states = {row["id"]: row["state"] for row in await connection.fetch(DOWNLOADS)}
    events = sorted(found, key=lambda event: _place(event, epochs))
    verdict = Verdict(stored=len(events))
    _settle(verdict, entries, events, begun)
    lives: dict[tuple[str, str], list[asyncpg.Record]] = collections.defaultdict(list)
    for event in events:
        lives[event["resource_type"], event["resource_id"]].append(event)
    for (kind, resource), life in lives.items():
        if kind == "media_item":
            _follow_item(verdict, resource, life, rows.pop(resource, None))
        elif kind == "download":
            _follow_download(verdict, resource, life, states[resource])
        elif kind == "publisher":
            numbers = [event["data"]["items_processed"] for event in life]
            verdict.misordered += _descents(resource, numbers)
    verdict.half_done += [f"{row} has no event" for row in rows]
    return verdict


def _place(event: asyncpg.Record, epochs: Sequence[Epoch]) -> tuple[int, int]:
    """Where the event was said. Sequences that JetStream gave again came later."""
    event_id, sequence = event["id"], event["stream_seq"]
    said_in = (n for n, it in enumerate(epochs) if event_id in it.stored or sequence <= it.kept)
    return next(said_in, len(epochs)), sequence


def _settle(
    verdict: Verdict, entries: Iterable[Entry], events: Sequence[asyncpg.Record], begun: int
) -> None:
    stored = collections.Counter(event["id"] for event in events)
    told = collections.Counter(event["correlation_id"] for event in events)
    said = collections.Counter(
        (event["correlation_id"], event["type"], event["resource_id"])
        for event in events
        if event["correlation_id"]
    )
    steps = collections.Counter((event["resource_id"], event["type"]) for event in events)
    owed: dict[str, int] = {}
    published: set[UUID] = set()
    taken: collections.Counter[tuple[str, str]] = collections.Counter()
    for entry in entries:
        match entry:
            case Operation(operation, number):
                owed[operation] = number
            case Published(event_id):
                published.add(event_id)
            case Step(download, told_by):
                taken[download, told_by] += 1
    verdict.acknowledged = sum(owed.values()) + len(published) + taken.total()
    verdict.lost += [f"{n} of {o}" for o, number in owed.items() for n in range(told[o], number)]
    verdict.lost += [str(event_id) for event_id in published if not stored[event_id]]
    verdict.lost += [f"{each}" for each in (taken - steps).elements()]
    verdict.twice += [str(event_id) for event_id, count in stored.items() if count > 1]
    verdict.twice += [str(what) for what, count in said.items() if count > 1]
    operations = {f"operation {number}" for number in range(1, begun + 1)}
    verdict.unasked += sorted(told.keys() - operations - {None})


def _follow_item(
    verdict: Verdict, item: str, life: Sequence[asyncpg.Record], row: asyncpg.Record | None
) -> None:
    """Each event tells what the item was before and after: they must lead from how it was added
    to how its row is now."""
    shown: dict[str, Any] | None = None
    for event in life:
        if shown != _before(event):
            verdict.misordered.append(f"{event['type']} {event['id']} of {item} after {shown}")
        shown = None if event["type"] == "media_item.removed" else _stated(event)
    now = {"title": row["title"], "monitored": row["monitored"]} if row else None
    if shown != now:
        verdict.half_done.append(f"{item} is {now}, and its events lead to {shown}")


def _follow_download(
    verdict: Verdict, download: str, life: Sequence[asyncpg.Record], state: str
) -> None:
    """It is initiated, and then paused and resumed in turns."""
    shown = None
    for event in life:
        leads_to = LEADS_TO.get(event["type"])
        if leads_to is None or leads_to == shown or (event["type"] in FIRST) is not (shown is None):
            verdict.misordered.append(f"{event['type']} {event['id']} of {download} after {shown}")
        shown = leads_to
    if shown != state:
        verdict.half_done.append(f"{download} is {state}, and its events lead to {shown}")


def _before(event: asyncpg.Record) -> dict[str, Any] | None:
    """What the item was before an event, as far as that tells; None where it was not there."""
    stated = _stated(event)
    match event["type"]:
        case "media_item.added":
            return None
        case "media_item.updated":
            return {**stated, "title": event["data"]["changes"]["title"][0]}
        case "media_item.monitoring_changed":
            return {**stated, "monitored": not stated["monitored"]}
        case _:
            return stated


def _stated(event: asyncpg.Record) -> dict[str, Any]:
    return {"title": event["data"]["title"], "monitored": event["data"]["monitored"]}


def _descents(publisher: str, numbers: Sequence[int]) -> list[str]:
    pairs = itertools.pairwise(numbers)
    return [f"publisher {publisher}: {b} after {a}" for a, b in pairs if b <= a]

"""Compare the ledger with the table ``events``."""

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
from mediabus.runtime.postgres.database import Pool

LATE_WITHIN: Final = 60.0
"""Seconds that late events have before they count as lost."""

EVENTS = """
SELECT id, stream_seq, type, resource_type, resource_id, correlation_id, data FROM events
"""
ITEMS = "SELECT id::text, title, monitored FROM media_items"
DOWNLOADS = "SELECT id::text, state FROM downloads"


class Epoch(NamedTuple):
    """The time until JetStream lost the end of its stream.

    ``stored`` are the ids in ``events`` by then, ``kept`` is the last sequence that was not lost.
    """

    stored: set[object]
    kept: int


LEADS_TO = {
    "download.initiated": "active",
    "download.paused": "paused",
    "download.resumed": "active",
    "download.failed": "failed",
    "download.removed": "removed",
}
"""State of a download after each event. An interrupted initiation may fail, and no user of the load
removes downloads."""

FIRST = {"download.initiated", "download.failed"}


@dataclasses.dataclass
class Verdict:
    """The number of events, and the failed checks.

    Attributes:
        lost: acknowledged and not stored.
        twice: stored twice.
        misordered: contradicts the previous event of the same resource.
        half_done: items whose events do not lead to the state of their row.
        unasked: events of operations that no user called.
    """

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
    """Return the verdict once nothing is missing, or after the time for late events.

    Late are unacknowledged events that the persister still stores, and operations whose user timed
    out.
    """
    deadline = time.monotonic() + LATE_WITHIN
    while True:
        verdict = await judge(pool, entries, begun, epochs)
        if not (verdict.lost or verdict.half_done) or time.monotonic() > deadline:
            return verdict
        await asyncio.sleep(1)


async def judge(
    pool: Pool, entries: Sequence[Entry], begun: int, epochs: Sequence[Epoch]
) -> Verdict:
    """Compare the ledger and the database in one snapshot.

    ``begun`` is the number of operations. An epoch ends when JetStream reuses sequences.
    """
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
        found = await connection.fetch(EVENTS)
        rows = {row["id"]: row for row in await connection.fetch(ITEMS)}
        states = {row["id"]: row["state"] for row in await connection.fetch(DOWNLOADS)}
    events = sorted(found, key=lambda event: _sort_key(event, epochs))
    verdict = Verdict(stored=len(events))
    _check_entries(verdict, entries, events, begun)
    histories: dict[tuple[str, str], list[asyncpg.Record]] = collections.defaultdict(list)
    for event in events:
        histories[event["resource_type"], event["resource_id"]].append(event)
    for (kind, resource), history in histories.items():
        if kind == "media_item":
            _check_item(verdict, resource, history, rows.pop(resource, None))
        elif kind == "download":
            _check_download(verdict, resource, history, states[resource])
        elif kind == "publisher":
            numbers = [event["data"]["items_processed"] for event in history]
            verdict.misordered += _descents(resource, numbers)
    verdict.half_done += [f"{row} has no event" for row in rows]
    return verdict


def _sort_key(event: asyncpg.Record, epochs: Sequence[Epoch]) -> tuple[int, int]:
    """Return the epoch and the sequence. Reused sequences belong to a later epoch."""
    event_id, sequence = event["id"], event["stream_seq"]
    epoch_numbers = (
        number
        for number, epoch in enumerate(epochs)
        if event_id in epoch.stored or sequence <= epoch.kept
    )
    return next(epoch_numbers, len(epochs)), sequence


def _check_entries(
    verdict: Verdict, entries: Iterable[Entry], events: Sequence[asyncpg.Record], begun: int
) -> None:
    stored = collections.Counter(event["id"] for event in events)
    by_operation = collections.Counter(event["correlation_id"] for event in events)
    changes = collections.Counter(
        (event["correlation_id"], event["type"], event["resource_id"])
        for event in events
        if event["correlation_id"]
    )
    steps = collections.Counter((event["resource_id"], event["type"]) for event in events)
    expected: dict[str, int] = {}
    published: set[UUID] = set()
    acknowledged: collections.Counter[tuple[str, str]] = collections.Counter()
    for entry in entries:
        match entry:
            case Operation(operation, number):
                expected[operation] = number
            case Published(event_id):
                published.add(event_id)
            case Step(download, event_type):
                acknowledged[download, event_type] += 1
    verdict.acknowledged = sum(expected.values()) + len(published) + acknowledged.total()
    verdict.lost += [
        f"{n} of {o}" for o, number in expected.items() for n in range(by_operation[o], number)
    ]
    verdict.lost += [str(event_id) for event_id in published if not stored[event_id]]
    verdict.lost += [f"{step}" for step in (acknowledged - steps).elements()]
    verdict.twice += [str(event_id) for event_id, count in stored.items() if count > 1]
    verdict.twice += [str(change) for change, count in changes.items() if count > 1]
    operations = {f"operation {number}" for number in range(1, begun + 1)}
    verdict.unasked += sorted(by_operation.keys() - operations - {None})


def _check_item(
    verdict: Verdict, item: str, history: Sequence[asyncpg.Record], row: asyncpg.Record | None
) -> None:
    """Check that the events of an item follow from each other and lead to its row.

    Each event has the state of the item before and after it.
    """
    shown: dict[str, Any] | None = None
    for event in history:
        if shown != _before(event):
            verdict.misordered.append(f"{event['type']} {event['id']} of {item} after {shown}")
        shown = None if event["type"] == "media_item.removed" else _stated(event)
    now = {"title": row["title"], "monitored": row["monitored"]} if row else None
    if shown != now:
        verdict.half_done.append(f"{item} is {now}, and its events lead to {shown}")


def _check_download(
    verdict: Verdict, download: str, history: Sequence[asyncpg.Record], state: str
) -> None:
    """Check that a download is initiated, then paused and resumed in turn."""
    shown = None
    for event in history:
        leads_to = LEADS_TO.get(event["type"])
        if leads_to is None or leads_to == shown or (event["type"] in FIRST) is not (shown is None):
            verdict.misordered.append(f"{event['type']} {event['id']} of {download} after {shown}")
        shown = leads_to
    if shown != state:
        verdict.half_done.append(f"{download} is {state}, and its events lead to {shown}")


def _before(event: asyncpg.Record) -> dict[str, Any] | None:
    """Return the state of the item before an event; None if it did not exist."""
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

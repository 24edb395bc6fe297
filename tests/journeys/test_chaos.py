"""A minute of chaos loses no event, and the ledger detects every kind of error."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

import pytest

from chaos.faults import KINDS, RELAY, Fault, Stage
from chaos.ledger import Ledger, Operation, Published, Step
from chaos.ordeal import run_under_load
from chaos.report import table
from chaos.run import Report, run
from chaos.verdict import Epoch, judge, judge_in_time
from chaos.world import NATS, POSTGRES
from mediabus.runtime.postgres.database import Pool
from mediabus.schemas.identity import uuid7
from tests.support.eventually import eventually

SECONDS = 60
OPENING = (
    # Both persisters die with events that PostgreSQL cannot store: none is acknowledged. (A
    # suspended PostgreSQL would have received them: they are in its socket.)
    Fault(1, "kill -9", POSTGRES, seconds=4, pause=2),
    Fault(2, "kill -9", "persister 1", seconds=0.5, pause=2),
    Fault(3, "kill -9", "persister 2", seconds=0.5, pause=0),
    # Events that no persister has stored are still in the outbox, even after longer than a row
    # usually stays there.
    Fault(4, "JetStream forgets", NATS, seconds=7, pause=0),
    # The next relay publishes the last events again, and none is stored twice.
    Fault(5, "kill -9", RELAY, seconds=0.5, pause=0),
    Fault(6, "kill -9", NATS, seconds=0.5, pause=0),
)


@pytest.mark.slow
@pytest.mark.timeout(420)
async def test_nothing_is_lost_in_a_minute_of_chaos(tmp_path: Path) -> None:
    report = await run(
        tmp_path,
        seed=60,
        faults=1000,
        seconds=SECONDS,
        kinds=list(KINDS),
        operations=80,
        publishes=25,
        opening=OPENING,
    )
    assert report.is_good, table(report)
    faults = [outcome.fault for outcome in report.outcomes]
    assert set(OPENING) < set(faults)
    assert report.findings.verdict.acknowledged > 500


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_an_unexpected_end_of_a_process_fails_the_run(
    tmp_path: Path,
) -> None:
    async def happening(stage: Stage) -> None:
        unit = stage.unit("persister 1")
        await eventually(lambda: b'"ready"' in unit.log_since_start(), within=30)
        await asyncio.to_thread(unit.stop)  # expected: the test stops it
        unit.start()
        await eventually(lambda: b'"ready"' in unit.log_since_start(), within=30)
        os.kill(unit.pid, signal.SIGKILL)
        await eventually(
            lambda: not unit.has_ended and b'"ready"' in unit.log_since_start(), within=30
        )

    findings = await run_under_load(tmp_path, happening, operations=20, publishes=5)
    assert findings.verdict.is_good
    [ending] = findings.unexpected_ends
    assert (ending.name, ending.code) == ("persister 1", -signal.SIGKILL)
    assert any('"ready"' in line for line in ending.last_lines)
    report = Report(seed=1, impossible={}, outcomes=[], findings=findings)
    assert not report.is_good
    assert str(ending) in table(report)


ITEM = "INSERT INTO media_items (id, type, title, metadata) VALUES ($1, 'tv_show', $2, '{}')"
EVENT = """
INSERT INTO events (id, occurred_at, stream_seq, category, type, severity, source, resource_type,
                    resource_id, correlation_id, data)
SELECT coalesce($1, uuidv7()), now(), $2, 'media', $3, 'info', 'test', 'media_item', $4, $5,
       jsonb_build_object('title', $6::text, 'monitored', true,
                          'changes', jsonb_build_object('title', jsonb_build_array($7::text, $6)))
"""


OTHER_EVENT = """
INSERT INTO events (id, occurred_at, stream_seq, category, type, severity, source, resource_type,
                    resource_id, data)
VALUES (uuidv7(), now(), $1, 'other', $2, 'info', 'test', $3, $4, $5)
"""
DOWNLOAD = """
INSERT INTO downloads (id, title, state, client, protocol)
VALUES ($1, 'A download', 'paused', 'home', 'torrent')
"""


class History:
    """Two operations on an item, two steps of a download and two numbers of a publisher.

    All of them are in the ledger and in the database.
    """

    def __init__(self, pool: Pool, ledger: Ledger) -> None:
        self._pool = pool
        self.ledger = ledger
        self.item = str(uuid7())
        self.download = str(uuid7())

    async def record(self) -> None:
        await self._pool.execute("SELECT ensure_events_partition(now())")
        await self._pool.execute(ITEM, UUID(self.item), "New")
        await self.record_event(1, "added", "operation 1", "Old")
        await self.record_event(2, "updated", "operation 2", "New", "Old")
        for operation in ("operation 1", "operation 2"):
            self.ledger.note(Operation(operation, 1))
        await self._pool.execute(DOWNLOAD, UUID(self.download))
        for place, step in enumerate(("initiated", "paused")):
            await self.step(place, step)
            self.ledger.note(Step(self.download, f"download.{step}"))
            await self.number(place, place)

    async def step(self, place: int, step: str) -> None:
        await self._pool.execute(
            OTHER_EVENT, place, f"download.{step}", "download", self.download, {}
        )

    async def number(self, place: int, number: int) -> None:
        data = {"items_processed": number}
        await self._pool.execute(OTHER_EVENT, place, "job.executed", "publisher", "1", data)

    async def record_event(
        self, place: int, action: str, operation: str, title: str, before: str = ""
    ) -> None:
        kind = f"media_item.{action}"
        await self._pool.execute(EVENT, None, place, kind, self.item, operation, title, before)

    async def execute(self, statement: str) -> None:
        await self._pool.execute(statement)


async def nothing(_: History) -> None:
    """Change nothing: no error to detect."""


async def an_event_is_missing(history: History) -> None:
    await history.execute("DELETE FROM events WHERE correlation_id = 'operation 2'")


async def a_publish_is_missing(history: History) -> None:
    history.ledger.note(Published(uuid7()))


async def a_step_is_missing(history: History) -> None:
    history.ledger.note(Step(history.item, "download.paused"))


async def an_event_is_recorded_twice(history: History) -> None:
    await history.record_event(3, "updated", "operation 2", "New", "New")


async def an_id_is_stored_again(history: History) -> None:
    await history.execute(
        "INSERT INTO events (id, occurred_at, stream_seq, category, type, severity, source, data) "
        "SELECT id, occurred_at - interval '1 microsecond', 0, category, type, severity, source, "
        "data FROM events WHERE correlation_id = 'operation 2'"
    )


async def an_order_is_reversed(history: History) -> None:
    await history.execute("UPDATE events SET stream_seq = 3 - stream_seq WHERE category = 'media'")


async def publisher_numbers_decrease(history: History) -> None:
    await history.number(2, 1)


async def a_step_is_taken_twice(history: History) -> None:
    await history.step(2, "paused")


async def a_download_is_initiated_twice(history: History) -> None:
    await history.step(2, "initiated")
    await history.step(3, "paused")


async def a_download_is_in_another_state(history: History) -> None:
    await history.execute("UPDATE downloads SET state = 'active'")


async def a_change_has_no_event(history: History) -> None:
    await history.execute("UPDATE media_items SET title = 'Newer'")


async def an_item_has_no_event(history: History) -> None:
    await history.execute(ITEM.replace("$1", "uuidv7()").replace("$2", "'Other'"))


async def an_operation_was_not_called(history: History) -> None:
    await history.record_event(3, "updated", "operation 99", "New", "New")


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (nothing, set()),
        (an_event_is_missing, {"lost", "half_done"}),
        (a_publish_is_missing, {"lost"}),
        (a_step_is_missing, {"lost"}),
        (an_event_is_recorded_twice, {"twice"}),
        (an_id_is_stored_again, {"twice"}),
        (an_order_is_reversed, {"misordered", "half_done"}),
        (publisher_numbers_decrease, {"misordered"}),
        (a_step_is_taken_twice, {"misordered"}),
        (a_download_is_initiated_twice, {"misordered"}),
        (a_download_is_in_another_state, {"half_done"}),
        (a_change_has_no_event, {"half_done"}),
        (an_item_has_no_event, {"half_done"}),
        (an_operation_was_not_called, {"unasked"}),
    ],
    ids=lambda case: getattr(case, "__name__", " "),
)
async def test_the_verdict_detects(
    pool: Pool, tmp_path: Path, wrong: Callable[[History], Awaitable[None]], found: set[str]
) -> None:
    ledger = Ledger(tmp_path / "ledger")
    async with ledger.open():
        history = History(pool, ledger)
        await history.record()
        await wrong(history)
    verdict = await judge(pool, ledger.entries(), 2, [])
    names = ("lost", "twice", "misordered", "half_done", "unasked")
    assert {name for name in names if getattr(verdict, name)} == found
    assert verdict.is_good is (not found)


async def test_the_verdict_waits_for_late_events(pool: Pool, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    async with ledger.open():
        history = History(pool, ledger)
        await history.record()
        await history.execute("UPDATE media_items SET title = 'Newer'")
    entries = ledger.entries()
    assert (await judge(pool, entries, 3, [])).half_done
    judging = asyncio.create_task(judge_in_time(pool, entries, 3, []))
    await asyncio.wait([judging], timeout=0.5)
    await history.record_event(3, "updated", "operation 3", "Newer", "New")
    assert (await asyncio.wait_for(judging, 30)).is_good


async def test_reused_sequences_belong_to_a_later_epoch(pool: Pool, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    async with ledger.open():
        history = History(pool, ledger)
        await history.record()
        # The first event is kept and not yet stored.
        rows = await pool.fetch("SELECT id FROM events WHERE stream_seq > 1")
        await history.record_event(2, "updated", "operation 3", "Newer", "New")
        await history.execute("UPDATE media_items SET title = 'Newer'")
    epoch = Epoch({row["id"] for row in rows}, kept=1)
    assert (await judge(pool, ledger.entries(), 3, [epoch])).is_good

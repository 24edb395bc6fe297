"""A whole mediabus under load while something happens to it, and what became of its events."""

import asyncio
import contextlib
import dataclasses
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from nats.errors import Error as NatsError
from nats.js.errors import APIError

from chaos import downloads
from chaos.faults import Stage
from chaos.ledger import Ledger
from chaos.load import Load
from chaos.units import Ending
from chaos.verdict import Verdict, judge_in_time
from chaos.world import World, server_disks
from schemas.subjects import DEAD_LETTERS_STREAM, EVENTS_STREAM
from service.outbox.leaving import PERSISTER
from service.runtime.bus import Bus, connect
from service.runtime.database import AWAY, Pool, open_pool
from service.runtime.settings import DatabaseSettings, NatsSettings

SETTLES_WITHIN: Final = 180.0


@dataclasses.dataclass
class Findings:
    """What became of everything. Times in seconds; ``uncertain`` are the operations without a
    reply, or with one that says no more than that something went wrong."""

    verdict: Verdict
    took: float
    operations: int
    uncertain: int
    published: int
    dead_letters: int
    longest_unavailable: float
    ended_by_themselves: list[Ending]
    surprises: list[str]
    unsettled: str | None

    @property
    def are_good(self) -> bool:
        """Whether nothing is wrong."""
        wrong = self.dead_letters or self.ended_by_themselves or self.surprises or self.unsettled
        return self.verdict.is_good and not wrong


async def endured(
    folder: Path,
    happening: Callable[[Stage], Awaitable[None]],
    *,
    operations: float,
    publishes: float,
) -> Findings:
    """Runs a world in ``folder`` under so many operations and direct publishes a second for as
    long as ``happening`` does, and judges what is left of it."""
    began = time.monotonic()
    ledger = Ledger(folder / "ledger")
    with server_disks(folder) as disks, downloads.client() as client:
        world = World(folder, disks, [client.settings()] if client else [])
        async with (
            world.running(),
            connect(NatsSettings(url=world.nats_url), name="chaos") as bus,
            open_pool(DatabaseSettings(url=world.database_url), size=4) as pool,
        ):
            load = Load(bus, ledger, operations=operations, publishes=publishes)
            stage = Stage(world, load, pool)
            async with ledger.open(), load.working(), _downloading(load, client is not None):
                await happening(stage)
            await asyncio.to_thread(world.units["monitor"].stop)  # it would go on to see and say
            unsettled = await _settled(bus, pool)
            dead = (await bus.js.stream_info(DEAD_LETTERS_STREAM)).state.messages
            verdict = await judge_in_time(pool, ledger.entries(), load.begun, stage.epochs)
    return Findings(
        verdict=verdict,
        took=time.monotonic() - began,
        operations=load.begun,
        uncertain=load.uncertain,
        published=load.published,
        dead_letters=dead,
        longest_unavailable=_longest_gap(load.answers),
        ended_by_themselves=[each for unit in world.units.values() for each in unit.endings],
        surprises=load.surprises,
        unsettled=unsettled,
    )


@contextlib.asynccontextmanager
async def _downloading(load: Load, there_is_a_client: bool) -> AsyncIterator[None]:
    """Users of downloads at work, where they can be."""
    using = asyncio.create_task(downloads.use(load)) if there_is_a_client else None
    try:
        yield
    finally:
        if using:
            using.cancel()


def _longest_gap(moments: Sequence[float]) -> float:
    return max((after - before for before, after in itertools.pairwise(moments)), default=0.0)


async def _settled(bus: Bus, pool: Pool) -> str | None:
    """Waits until nothing is on its way; says what still is after too long."""
    left = "it could not be asked"
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SETTLES_WITHIN):
            while left := await _on_the_way(bus, pool):  # noqa: ASYNC110 - asks servers
                await asyncio.sleep(0.25)
            return None
    return left


async def _on_the_way(bus: Bus, pool: Pool) -> str:
    try:
        waiting = await pool.fetchval("SELECT count(*) FROM outbox", timeout=5)
        consumer = await bus.js.consumer_info(EVENTS_STREAM, PERSISTER)
    except (*AWAY, NatsError, APIError) as error:
        return f"cannot ask: {error}"
    if waiting or consumer.num_pending:
        return f"{waiting} events in the outbox, {consumer.num_pending} to be read"
    return ""

"""Run a mediabus under load while faults happen, and check its events afterwards."""

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
from chaos.verdict import Epoch, Verdict, judge_in_time
from chaos.world import World, server_disks
from mediabus.runtime.nats.bus import Bus, connect
from mediabus.runtime.postgres.database import AWAY, Pool, open_pool
from mediabus.runtime.settings import DatabaseSettings, NatsSettings
from mediabus.schemas.subjects import DEAD_LETTERS_STREAM, EVENTS_STREAM, PERSISTER

DRAIN_TIMEOUT: Final = 180.0
"""Seconds after the load until every event must be stored."""


@dataclasses.dataclass
class Findings:
    """The result of a run. Times are in seconds.

    ``uncertain`` counts operations without a reply or with an error. ``unstored`` names the events
    that were still not stored after the timeout.
    """

    verdict: Verdict
    took: float
    operations: int
    uncertain: int
    published: int
    dead_letters: int
    longest_unavailable: float
    unexpected_ends: list[Ending]
    surprises: list[str]
    unstored: str | None

    @property
    def are_good(self) -> bool:
        """Return whether all checks passed."""
        wrong = self.dead_letters or self.unexpected_ends or self.surprises or self.unstored
        return self.verdict.is_good and not wrong


async def run_under_load(
    folder: Path,
    happening: Callable[[Stage], Awaitable[None]],
    *,
    operations: float,
    publishes: float,
) -> Findings:
    """Run a mediabus in ``folder`` under load while ``happening`` runs, then check its events.

    ``operations`` and ``publishes`` are rates per second.
    """
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
            await asyncio.to_thread(world.units["monitor"].stop)  # it would go on to record events
            findings = await findings_of(load, pool, bus, ledger, stage.epochs)
    endings = [ending for unit in world.units.values() for ending in unit.endings]
    took = time.monotonic() - began
    return dataclasses.replace(findings, took=took, unexpected_ends=endings)


async def findings_of(
    load: Load, pool: Pool, bus: Bus, ledger: Ledger, epochs: Sequence[Epoch] = ()
) -> Findings:
    """Wait until everything is stored, and compare it with the ledger."""
    unstored = await _wait_until_stored(bus, pool)
    dead = (await bus.js.stream_info(DEAD_LETTERS_STREAM)).state.messages
    return Findings(
        verdict=await judge_in_time(pool, ledger.entries(), load.begun, epochs),
        took=0.0,  # known at the end
        operations=load.begun,
        uncertain=load.uncertain,
        published=load.published,
        dead_letters=dead,
        longest_unavailable=longest_gap(load.answers),
        unexpected_ends=[],  # known once the units have ended
        surprises=load.surprises,
        unstored=unstored,
    )


@contextlib.asynccontextmanager
async def _downloading(load: Load, has_client: bool) -> AsyncIterator[None]:
    """Run the users of downloads if there is a client."""
    using = asyncio.create_task(downloads.use(load)) if has_client else None
    try:
        yield
    finally:
        if using:
            using.cancel()


def longest_gap(moments: Sequence[float]) -> float:
    """Return the longest time between two moments that follow each other."""
    return max((after - before for before, after in itertools.pairwise(moments)), default=0.0)


async def _wait_until_stored(bus: Bus, pool: Pool) -> str | None:
    """Wait until all events are stored; return a description of the rest after the timeout."""
    left = "NATS or PostgreSQL did not answer"
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_TIMEOUT):
            while left := await _unstored(bus, pool):  # noqa: ASYNC110 - asks servers
                await asyncio.sleep(0.25)
            return None
    return left


async def _unstored(bus: Bus, pool: Pool) -> str:
    try:
        waiting = await pool.fetchval("SELECT count(*) FROM outbox", timeout=5)
        consumer = await bus.js.consumer_info(EVENTS_STREAM, PERSISTER)
    except (*AWAY, NatsError, APIError) as error:
        return f"NATS or PostgreSQL did not answer: {error}"
    if waiting or consumer.num_pending:
        return f"{waiting} events in the outbox, {consumer.num_pending} in the stream"
    return ""

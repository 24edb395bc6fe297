"""Make the transitions that time alone leads to, also for clients that are no longer configured.

A download whose initiation was interrupted fails after two minutes. An unstable download that has
kept its state long enough is stable again.
"""

import asyncio
import contextlib
from typing import Final

from mediabus.runtime import metrics
from mediabus.runtime.postgres.database import AWAY, RESTORING, Pool
from mediabus.service.downloads import table
from mediabus.service.downloads.row import DownloadRow, Transition
from mediabus.service.monitor.follow.damping import STABLE_AFTER, stabilized
from mediabus.service.monitor.follow.lifecycle import Gone, next_step
from mediabus.service.outbox.outbox import Outbox

SWEEP_EVERY: Final = 30.0

LEASES: Final = "SELECT name, beat FROM leases WHERE name LIKE 'monitor.%'"


class Sweep:
    """The sweep of all downloads.

    Every monitor process runs one: transitions are compare-and-set. Downloads that a watched client
    may still list are left to its watcher.
    """

    def __init__(self, pool: Pool, outbox: Outbox) -> None:
        self._pool = pool
        self._outbox = outbox
        self._beats: dict[str, int] = {}

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            with contextlib.suppress(*AWAY, *RESTORING):
                await self.sweep()
                await self.stabilize()
            await asyncio.sleep(SWEEP_EVERY)

    async def sweep(self) -> None:
        """Fail the interrupted initiations."""
        watched = await self._watched()
        for row in await table.initiating(self._pool):
            if row.client_item is None or row.client not in watched:
                await self._give_up(row)

    async def stabilize(self) -> None:
        """Report the unstable downloads that are stable again."""
        for row in await table.unstable(self._pool, STABLE_AFTER):
            await self._apply(row, stabilized(row))

    async def _watched(self) -> set[str]:
        """Return the clients that a monitor watches.

        Their lease was renewed since the last sweep, or is new. A monitor that was killed leaves
        its leases behind.
        """
        before = self._beats
        self._beats = {row["name"]: row["beat"] for row in await self._pool.fetch(LEASES)}
        alive = (name for name, beat in self._beats.items() if before.get(name) != beat)
        return {name.removeprefix("monitor.") for name in alive}

    async def _give_up(self, row: DownloadRow) -> None:
        step = next_step(row, Gone(), stalled_after=0)
        if isinstance(step, Transition):
            await self._apply(row, step)

    async def _apply(self, row: DownloadRow, step: Transition) -> None:
        if await table.step(self._outbox, row, step):
            for fact in step.events:
                metrics.TRANSITIONS.labels(fact.event.type).inc()

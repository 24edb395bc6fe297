"""Restart every server of a NATS cluster in turn, in lame duck mode, under load.

    python -m chaos.rolling

The exit code is 1 if an acknowledged event is lost or stored twice.
"""

import asyncio
import contextlib
import logging
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import uvloop

from chaos.failover import Report, Stage, run, table
from mediabus.runtime.nats.bus import Bus, connect
from mediabus.runtime.settings import DatabaseSettings, HttpSettings, NatsSettings, Settings
from tests.support.cluster import NatsCluster, nats_cluster
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.servers import postgres_server

OPERATIONS: Final = 60.0
PUBLISHES: Final = 20.0
IDLE_CLIENTS: Final = 12
"""Programs that only listen, so that it shows where connections move."""
WHOLE_WITHIN: Final = 60.0

LAME_DUCK_CONF: Final = """
lame_duck_grace_period: "1s"
lame_duck_duration: "30s"  # the shortest; with few clients it takes one second for each
"""


class Upgrade(NamedTuple):
    """The report, the clients of each server after each restart, and the lines that were logged.

    ``spreads`` has the servers that run while one is replaced. ``warnings`` counts the warnings and
    errors of each process of mediabus.
    """

    report: Report
    spreads: list[dict[str, int]]
    warnings: dict[str, int]


async def upgrade(
    cluster: NatsCluster,
    database_url: str,
    folder: Path,
    *,
    operations: float = OPERATIONS,
    publishes: float = PUBLISHES,
) -> Upgrade:
    """Replace each server once: lame duck mode, then a new start with the same data.

    ``operations`` and ``publishes`` are rates per second.
    """
    spreads: list[dict[str, int]] = []
    warnings: dict[str, int] = {}
    nats = NatsSettings(url=cluster.url, replicas=3)

    async def happening(stage: Stage) -> None:
        async with _idle_clients(nats):
            for name, server in cluster.servers.items():
                await eventually(cluster.is_whole, within=WHOLE_WITHIN, every=0.2)
                await stage.measure(name, partial(asyncio.to_thread, server.lame_duck))
                spreads.append(await eventually(lambda: _spread(cluster)))
                await asyncio.to_thread(server.start)
            await eventually(cluster.is_whole, within=WHOLE_WITHIN, every=0.2)
        for number, process in enumerate(stage.processes, start=1):
            warnings[f"{process.name} {number}"] = _warnings(process.log)

    settings = Settings(
        data_dir=str(folder / "data"),
        nats=nats,
        database=DatabaseSettings(url=database_url),
        http=HttpSettings(port=0),
    )
    report = await run(settings, folder, happening, operations=operations, publishes=publishes)
    return Upgrade(report, spreads, warnings)


def _spread(cluster: NatsCluster) -> dict[str, int] | None:
    """Return the clients of each remaining server, once all of them answer."""
    found = cluster.connections()
    return found if len(found) == len(cluster.servers) - 1 else None


@contextlib.asynccontextmanager
async def _idle_clients(nats: NatsSettings) -> AsyncIterator[list[Bus]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(connect(nats, name=f"idle {number}"))
            for number in range(IDLE_CLIENTS)
        ]


def _warnings(log: Path) -> int:
    levels = (b'"level": "warning"', b'"level":"warning"', b'"level": "error"', b'"level":"error"')
    return sum(any(level in line for level in levels) for line in log.read_bytes().splitlines())


def main() -> int:
    """Run the upgrade and print the figures."""
    for name in ("asyncpg", "mediabus"):  # they log every lost connection
        logging.getLogger(name).setLevel(logging.CRITICAL)
    folder = Path(tempfile.mkdtemp(prefix="mediabus-rolling-"))
    for part in ("nats", "postgres"):
        (folder / part).mkdir()
    with (
        nats_cluster(folder / "nats", config_extra=LAME_DUCK_CONF) as cluster,
        postgres_server(folder / "postgres", free_port()) as postgres,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        found = runner.run(upgrade(cluster, postgres.url, folder))
    print(f"\n{table(found.report)}")
    print(f"\nclients of each server: {found.spreads}\nwarnings logged: {found.warnings}")
    if found.report.is_good:
        shutil.rmtree(folder)
    return 0 if found.report.is_good else 1


if __name__ == "__main__":
    sys.exit(main())

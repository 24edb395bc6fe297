"""Kill the primary of PostgreSQL under Patroni, again and again, under load.

    python -m chaos.patroni [--kills 3] [--ttl 30 --loop-wait 10 --retry-timeout 10]

Needs Debian's packages patroni, etcd-server, haproxy and postgresql. The exit code is 1 if an
acknowledged event is lost or stored twice.
"""

import argparse
import asyncio
import logging
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Final

import uvloop

from chaos.failover import Report, Stage, run, table
from mediabus.runtime.settings import DatabaseSettings, HttpSettings, NatsSettings, Settings
from tests.support.eventually import eventually
from tests.support.patroni import STARTS_WITHIN, Node, PatroniCluster, Times, patroni_cluster
from tests.support.ports import free_port
from tests.support.servers import nats_server

OPERATIONS: Final = 60.0
PUBLISHES: Final = 20.0


async def kill_primaries(
    cluster: PatroniCluster, nats_url: str, folder: Path, kills: int
) -> Report:
    """Kill the primary and its Patroni with SIGKILL, each time once it has a standby again."""

    async def happening(stage: Stage) -> None:
        for number in range(1, kills + 1):
            primary = await eventually(lambda: _replaceable(cluster), within=STARTS_WITHIN)
            kill = partial(asyncio.to_thread, primary.kill)
            await stage.measure(f"{number}. {primary.name}", kill)
            promoted = cluster.primary()
            assert promoted not in {None, primary}, "no standby was promoted"
            await asyncio.to_thread(primary.start, within=STARTS_WITHIN)
        await eventually(cluster.is_whole, within=STARTS_WITHIN)

    settings = Settings(
        data_dir=str(folder / "data"),
        nats=NatsSettings(url=nats_url),
        database=DatabaseSettings(url=cluster.url),
        http=HttpSettings(port=0),
    )
    return await run(settings, folder, happening, operations=OPERATIONS, publishes=PUBLISHES)


def _replaceable(cluster: PatroniCluster) -> Node | None:
    return cluster.primary() if cluster.is_whole() else None


def main() -> int:
    """Run the failovers and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--ttl", type=int, default=Times.ttl, help="seconds")
    parser.add_argument("--loop-wait", type=int, default=Times.loop_wait, help="seconds")
    parser.add_argument("--retry-timeout", type=int, default=Times.retry_timeout, help="seconds")
    arguments = parser.parse_args()
    for name in ("asyncpg", "mediabus"):  # they log every failed connection
        logging.getLogger(name).setLevel(logging.CRITICAL)
    folder = Path(tempfile.mkdtemp(prefix="mediabus-failover-"))
    (folder / "nats").mkdir()
    times = Times(arguments.ttl, arguments.loop_wait, arguments.retry_timeout)
    with (
        patroni_cluster(times) as cluster,
        nats_server(folder / "nats", free_port()) as nats,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        report = runner.run(kill_primaries(cluster, nats.url, folder, arguments.kills))
    print(f"\n{table(report)}")
    if report.is_good:
        shutil.rmtree(folder)
    return 0 if report.is_good else 1


if __name__ == "__main__":
    sys.exit(main())

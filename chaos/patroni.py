"""Break the primary of PostgreSQL under Patroni, again and again, under load.

    python -m chaos.patroni [--faults "kill -9,SIGSTOP"]
    python -m chaos.patroni --ttl 30 --loop-wait 10 --retry-timeout 10

Needs Debian's packages patroni, etcd-server, haproxy and postgresql. The exit code is 1 if an
acknowledged event is lost or stored twice.
"""

import argparse
import asyncio
import logging
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import uvloop

from chaos.failover import Report, Stage, run, table
from mediabus.runtime.settings import DatabaseSettings, HttpSettings, NatsSettings, Settings
from tests.support.eventually import eventually
from tests.support.patroni import STARTS_WITHIN, Node, PatroniCluster, Times, patroni_cluster
from tests.support.ports import free_port
from tests.support.servers import nats_server

DEFAULT: Final = ("kill -9", "kill -9", "kill -9", "kill -9 of Patroni alone", "SIGSTOP")


class Fault(NamedTuple):
    """What happens to the primary, and how it comes back."""

    begin: Callable[[Node], None]
    end: Callable[[Node], None]


FAULTS: Final[Mapping[str, Fault]] = {
    "kill -9": Fault(Node.kill, partial(Node.start, within=STARTS_WITHIN)),
    "kill -9 of Patroni alone": Fault(Node.kill_patroni, partial(Node.start, within=STARTS_WITHIN)),
    "SIGSTOP": Fault(Node.suspend, Node.resume),
}
"""``kill -9`` is of Patroni and PostgreSQL, ``SIGSTOP`` too."""


async def fail_over(
    cluster: PatroniCluster,
    nats_url: str,
    folder: Path,
    faults: Sequence[str],
    *,
    operations: float,
    publishes: float,
) -> Report:
    """Break the primary, each time once it has a synchronous standby, which takes its place.

    ``operations`` and ``publishes`` are rates per second.
    """

    async def happening(stage: Stage) -> None:
        for number, name in enumerate(faults, start=1):
            primary = await eventually(
                lambda: asyncio.to_thread(_replaceable, cluster), within=STARTS_WITHIN, every=0.25
            )
            replace = partial(_replace, cluster, primary, FAULTS[name])
            await stage.measure(f"{number}. {name}, {primary.name}", replace)
            await asyncio.to_thread(FAULTS[name].end, primary)
        await eventually(lambda: asyncio.to_thread(cluster.is_whole), within=STARTS_WITHIN)

    settings = Settings(
        data_dir=str(folder / "data"),
        nats=NatsSettings(url=nats_url),
        database=DatabaseSettings(url=cluster.url),
        http=HttpSettings(port=0),
    )
    return await run(settings, folder, happening, operations=operations, publishes=publishes)


async def _replace(cluster: PatroniCluster, primary: Node, fault: Fault) -> None:
    """Begin a fault, and wait until the other node is the primary."""
    [standby] = [node for node in cluster.nodes.values() if node is not primary]
    await asyncio.to_thread(fault.begin, primary)
    await eventually(
        lambda: asyncio.to_thread(lambda: standby.is_primary), within=STARTS_WITHIN, every=0.1
    )


def _replaceable(cluster: PatroniCluster) -> Node | None:
    return cluster.primary() if cluster.is_whole() else None


def main() -> int:
    """Run the failovers and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--faults", default=",".join(DEFAULT), help=f"some of: {', '.join(FAULTS)}")
    parser.add_argument("--ttl", type=int, default=Times.ttl, help="seconds")
    parser.add_argument("--loop-wait", type=int, default=Times.loop_wait, help="seconds")
    parser.add_argument("--retry-timeout", type=int, default=Times.retry_timeout, help="seconds")
    parser.add_argument("--operations", type=float, default=60, help="per second")
    parser.add_argument("--publishes", type=float, default=20, help="per second")
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
        report = runner.run(
            fail_over(
                cluster,
                nats.url,
                folder,
                arguments.faults.split(","),
                operations=arguments.operations,
                publishes=arguments.publishes,
            )
        )
    print(f"\n{table(report)}")
    if report.is_good:
        shutil.rmtree(folder)
    return 0 if report.is_good else 1


if __name__ == "__main__":
    sys.exit(main())

"""Inject random faults into a mediabus under load, and check that no event was lost.

    python -m chaos [--seed 1] [--faults 200] [--seconds 900] [--kinds "kill -9,restart"]

The same seed gives the same faults in the same order. The exit code is 1 if a check fails.
"""

import argparse
import asyncio
import logging
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import uvloop

from chaos.faults import KINDS
from chaos.report import as_json, table
from chaos.run import impossible, run


def main() -> int:
    """Run the faults and print the report."""
    arguments = _arguments()
    signal.signal(
        signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT)
    )  # so that the servers are stopped
    for name in ("asyncpg", "mediabus"):  # they log every failed connection
        logging.getLogger(name).setLevel(logging.CRITICAL)
    seed = random.randrange(10_000) if arguments.seed is None else arguments.seed
    folder = Path(tempfile.mkdtemp(prefix="mediabus-chaos-"))
    print(f"chaos: seed {seed}, up to {arguments.faults} faults, logs in {folder}", flush=True)
    for kind, reason in impossible(folder).items():
        print(f"  no {kind}: {reason}", flush=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(
            run(
                folder,
                seed=seed,
                faults=arguments.faults,
                seconds=arguments.seconds,
                kinds=arguments.kinds.split(",") if arguments.kinds else list(KINDS),
                operations=arguments.operations,
                publishes=arguments.publishes,
            )
        )
    print(f"\n{table(report)}")
    if arguments.json:
        arguments.json.write_bytes(as_json(report))
    if report.is_good and not arguments.keep:
        shutil.rmtree(folder)
    return 0 if report.is_good else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, help="seed of the faults; random by default")
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument(
        "--seconds", type=float, default=1800, help="start no fault after this time"
    )
    parser.add_argument("--kinds", help=f"some of: {', '.join(KINDS)}")
    parser.add_argument("--operations", type=float, default=150, help="per second")
    parser.add_argument("--publishes", type=float, default=50, help="per second")
    parser.add_argument("--json", type=Path, help="also write the report to this file as JSON")
    parser.add_argument("--keep", action="store_true", help="keep the logs even if no check fails")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

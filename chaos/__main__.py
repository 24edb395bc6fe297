"""Random faults under load, and a ledger that says whether anything was lost.

    python -m chaos [--seed 1] [--faults 200] [--seconds 900] [--kinds "kill -9,restart"]

The same seed makes the same faults in the same order. Leaves with 1 where anything is wrong.
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
    """Runs and prints."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # and clean up
    for name in ("asyncpg", "mediabus"):  # they tell each time that they cannot connect
        logging.getLogger(name).setLevel(logging.CRITICAL)
    seed = random.randrange(10_000) if arguments.seed is None else arguments.seed
    folder = Path(tempfile.mkdtemp(prefix="mediabus-chaos-"))
    print(f"chaos: seed {seed}, up to {arguments.faults} faults, logs in {folder}", flush=True)
    for kind, why in impossible(folder).items():
        print(f"  no {kind}: {why}", flush=True)
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
    parser.add_argument("--seed", type=int, help="of the faults; without it a random one")
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=1800, help="begin no fault after that")
    parser.add_argument("--kinds", help=f"some of: {', '.join(KINDS)}")
    parser.add_argument("--operations", type=float, default=150, help="a second")
    parser.add_argument("--publishes", type=float, default=50, help="a second")
    parser.add_argument("--json", type=Path, help="also write the report there")
    parser.add_argument("--keep", action="store_true", help="keep the logs of a good run too")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

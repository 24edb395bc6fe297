"""Run load without faults, and measure the memory of each process over time.

    python -m chaos.soak [--minutes 30]

The exit code is 1 if an event is lost, or if a process of mediabus keeps growing.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from chaos.faults import Stage
from chaos.ordeal import Findings, run_under_load
from chaos.world import PROCESSES

SAMPLE_EVERY: Final = 5.0
"""Seconds between two samples of the memory."""
WARM_AFTER: Final = 120.0
"""Seconds until a process has opened its connections, prepared its statements and filled its
caches. Growth is measured from then on."""

MAX_GROWTH: Final = 10.0
"""Megabytes per hour that do not count as growth, because memory allocators fragment."""

Samples = dict[str, list[tuple[float, float]]]
"""Pairs of time in seconds and megabytes, by name of the process."""


async def soak(
    folder: Path, seconds: float, *, operations: float, publishes: float
) -> tuple[Findings, Samples]:
    """Run a mediabus in ``folder`` under load, and sample its memory."""
    samples: Samples = {}

    async def watch(stage: Stage) -> None:
        began = time.monotonic()
        while (now := time.monotonic() - began) < seconds:
            for name, unit in stage.world.units.items():
                samples.setdefault(name, []).append((now, unit.rss() / 1e6))
            await asyncio.sleep(SAMPLE_EVERY)

    return await run_under_load(folder, watch, operations=operations, publishes=publishes), samples


def slope(samples: Sequence[tuple[float, float]]) -> float:
    """Return the growth in megabytes per hour: a least-squares fit after the warm-up."""
    warm = [sample for sample in samples if sample[0] >= WARM_AFTER] or samples
    mean_x = sum(x for x, _ in warm) / len(warm)
    mean_y = sum(y for _, y in warm) / len(warm)
    spread = sum((x - mean_x) ** 2 for x, _ in warm)
    return 3600 * sum((x - mean_x) * (y - mean_y) for x, y in warm) / spread if spread else 0.0


def table(findings: Findings, samples: Samples) -> str:
    """Return Markdown: a row for each process, then the figures of the events."""
    lines = ["| process | MB at first | after 2 min | last | most | MB/hour |"]
    lines.append("|---|--:|--:|--:|--:|--:|")
    for name, taken in samples.items():
        sizes = [size for _, size in taken]
        warm = next((size for moment, size in taken if moment >= WARM_AFTER), sizes[-1])
        figures = (sizes[0], warm, sizes[-1], max(sizes), slope(taken))
        lines.append(f"| {name} | {' | '.join(f'{figure:.1f}' for figure in figures)} |")
    verdict = findings.verdict
    lines.append(
        f"\n{findings.operations} operations and {findings.published} direct publishes in "
        f"{findings.took / 60:.0f} minutes: {verdict.acknowledged} events acknowledged, "
        f"{verdict.stored} stored, {len(verdict.lost)} lost, {len(verdict.twice)} twice, "
        f"{len(verdict.misordered)} misordered."
    )
    return "\n".join(lines)


def main() -> int:
    """Run the load and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--operations", type=float, default=150, help="per second")
    parser.add_argument("--publishes", type=float, default=50, help="per second")
    parser.add_argument("--json", type=Path, help="also write the samples to this file as JSON")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mediabus-soak-"))
    work = soak(
        folder,
        arguments.minutes * 60,
        operations=arguments.operations,
        publishes=arguments.publishes,
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        findings, samples = runner.run(work)
    shutil.rmtree(folder)
    print(table(findings, samples))
    if arguments.json:
        arguments.json.write_bytes(msgspec.json.encode({"findings": findings, "samples": samples}))
    grown = [name for name in PROCESSES if slope(samples[name]) > MAX_GROWTH]
    if grown:
        print(f"\ngrowing: {', '.join(grown)}")
    return 0 if findings.are_good and not grown else 1


if __name__ == "__main__":
    sys.exit(main())

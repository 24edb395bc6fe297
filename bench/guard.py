"""Fail in CI if the speed of mediabus, relative to FastStream, falls below the recorded one.

A ratio within one run does not depend on the machine, and 0.6 of it is generous for noise.
"""

import json
from pathlib import Path
from typing import Final

from rich.console import Console

from bench import aims, stream_to_row
from bench.report import rows

RECORDED: Final = Path(__file__).with_name("recorded.json")
RATIO: Final = "one persister / FastStream"
ENOUGH: Final = 0.6
EVENTS: Final = 30_000
RUNS: Final = 3


async def guard(console: Console, *, record: bool) -> bool:
    """Measure the ratio. Return whether it is high enough, or record it."""
    section = await stream_to_row.measure(EVENTS, RUNS, stream_to_row.GUARDED)
    aim = next(aim for aim in aims.AIMS if aim.against == aims.FASTSTREAM)
    ratio = section.reached(aim)
    for name, median, spread, unit in rows(section):
        console.print(f"guard: {name}: {median} {unit} ({spread})")
    if ratio is None:
        console.print("\n".join(section.notes))
        return False
    if record:
        RECORDED.write_text(json.dumps({RATIO: round(ratio, 2)}, indent=1) + "\n")
    recorded: float = json.loads(RECORDED.read_text())[RATIO]
    console.print(
        f"guard: {RATIO} is {ratio:.2f}; recorded was {recorded:.2f}, "
        f"at least {ENOUGH * recorded:.2f} is wanted"
    )
    return holds(ratio, recorded)


def holds(ratio: float, recorded: float) -> bool:
    """Return whether a ratio is close to the recorded one, or better."""
    return ratio >= ENOUGH * recorded

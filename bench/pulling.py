"""Measure how fast client libraries receive and acknowledge events, in turns.

    python -m bench.pulling [--events 100000] [--runs 3] PYTHON

PYTHON is the path of an interpreter, 3.13 or newer: natsio needs it. Nothing decodes or stores the
events, so this compares mediabus' pull consumer with those that it could use instead.
"""

import argparse
import logging
from typing import Final

import uvloop
from rich.console import Console

from bench.__main__ import keep
from bench.interpreters import Interpreter
from bench.report import Section, header, show
from bench.servers import event, stack
from bench.stream_to_row import Contender, drain, fill, say_cost

LIBRARIES: Final = {
    "mediabus": ("pull_mediabus", "run.txt"),
    "nats-py": ("pull_nats_py", "run.txt"),
    "nats-jetstream": ("pull_nats_jetstream", "pull.txt"),
    "natsio": ("pull_natsio", "pull.txt"),
}
"""The script of each library, and the lock file of its packages."""


def contender(library: str, python: Interpreter) -> Contender:
    """Return the script of a library under a version of Python."""
    script, lock = LIBRARIES[library]
    command = python.command(python.packages(lock), "-m", f"bench.peers.{script}")
    return Contender(library, [command], "peer", library)


async def measure(python: Interpreter, events: int, runs: int) -> Section:
    """Measure all libraries in turns."""
    section = Section(f"receive and acknowledge, Python {python.version}")
    contenders = [contender(library, python) for library in LIBRARIES]
    cost: dict[str, list[dict[str, float]]] = {}
    async with stack() as it:
        await fill(it, [event() for _ in range(events)])
        for _ in range(runs):
            for one in contenders:
                drained = await drain(it, one, events)
                section.add(one.name, "events/s", drained.events_a_second)
                cost.setdefault(one.name, []).append(drained.cost)
    section.note(f"{events:,} events of {len(event().payload)} bytes, {runs} runs in turns.")
    say_cost(section, cost)
    return section


def main() -> None:
    """Run the benchmark and print the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("python")
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    measured = measure(Interpreter.at(arguments.python), arguments.events, arguments.runs)
    section, head = uvloop.run(measured), header(quick=False)
    show(Console(), section)
    keep(head, [section], name="pulling.json")


if __name__ == "__main__":
    main()

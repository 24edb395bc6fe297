"""Measure one persister under several versions of Python, in turns.

    python -m bench.pythons [--events 100000] [--runs 3] PYTHON...

PYTHON is the path of an interpreter, such as /usr/bin/python3.13. It gets the packages of
``locks/run.txt``. Compare interpreters that were built alike: a build without profile-guided
optimization takes a seventh more CPU.
"""

import argparse
import logging

import uvloop
from rich.console import Console

from bench import stream_to_row
from bench.__main__ import keep
from bench.interpreters import Interpreter
from bench.report import header, show
from bench.stream_to_row import Contender


def contender(python: Interpreter) -> Contender:
    """Return the persister under one version of Python."""
    command = python.command(python.packages("run.txt"), "-m", "mediabus.main", "persist")
    return Contender(f"Python {python.version}, one persister", [command], "persister")


def main() -> None:
    """Run the benchmark and print the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("python", nargs="+")
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    contenders = [contender(Interpreter.at(path)) for path in arguments.python]
    measured = stream_to_row.measure(arguments.events, arguments.runs, contenders=contenders)
    section, head = uvloop.run(measured), header(quick=False)
    section.name = "versions of Python"
    show(Console(), section)
    keep(head, [section], name="pythons.json")


if __name__ == "__main__":
    main()

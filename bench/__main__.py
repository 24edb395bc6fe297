"""Measure mediabus, its peers and the limits of the machine.

    python -m bench [--quick] [--only NAME]     all sections, about ten minutes
    python -m bench --page                      the same, and update docs/performance.md
    python -m bench --guard [--record]          for CI: fail if slower than recorded

Tables go to the terminal, everything as JSON and the chart as SVG to ``bench/results/``. An hour of
steady load is ``python -m bench.growth``.
"""

import argparse
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final

import uvloop
from rich.console import Console

from bench import (
    aims,
    history,
    operation_in_trouble,
    operation_to_reply,
    operation_to_row,
    relay,
    start_up,
    stream_to_row,
    watching,
)
from bench.chart import bars
from bench.guard import guard
from bench.report import Section, as_json, as_markdown, header, show
from bench.servers import REPOSITORY, Failed

Measure = Callable[[], Awaitable[Section]]

FULL: Final[dict[str, Measure]] = {
    aims.START: lambda: start_up.measure(3),
    aims.ROW: lambda: stream_to_row.measure(100_000, 3),
    aims.REPLY: lambda: operation_to_reply.measure(4_000, 3),
    "operation in trouble": lambda: operation_in_trouble.measure(2_000, 3),
    aims.VISIBLE: lambda: operation_to_row.measure(5_000, 8, 3),
    aims.RELAY: lambda: relay.measure(200_000, 3),
    aims.HISTORY: lambda: history.measure(100_000, 10_000_000, 300),
    aims.MONITOR: lambda: watching.measure((100, 2_000, 10_000), 15),
}
QUICK: Final[dict[str, Measure]] = {
    aims.START: lambda: start_up.measure(1),
    aims.ROW: lambda: stream_to_row.measure(10_000, 1),
    aims.REPLY: lambda: operation_to_reply.measure(500, 1),
    "operation in trouble": lambda: operation_in_trouble.measure(300, 1),
    aims.VISIBLE: lambda: operation_to_row.measure(1_000, 2, 1),
    aims.RELAY: lambda: relay.measure(10_000, 1),
    aims.HISTORY: lambda: history.measure(20_000, 200_000, 100),
    aims.MONITOR: lambda: watching.measure((100, 2_000), 3),
}
RESULTS: Final = REPOSITORY / "bench" / "results"
PAGE: Final = REPOSITORY / "docs" / "performance.md"
CHART: Final = "stream-to-row.svg"
BEGIN, END = "<!-- measured -->\n", "<!-- /measured -->\n"


async def run(
    sections: dict[str, Measure], head: dict[str, str], console: Console
) -> tuple[list[Section], bool]:
    """Run the sections and show each when it is done. Return them, and whether all succeeded.

    A section that fails does not stop the others.
    """
    for name, value in head.items():
        console.print(f"{name:9} {value}", highlight=False)
    done, well = [], True
    for name, measure in sections.items():
        started = time.perf_counter()
        try:
            section = await measure()
        except (Failed, TimeoutError) as error:
            console.print(f"{name}: {error or 'took too long'}", style="red")
            well = False
            continue
        show(console, section)
        console.print(f"  {time.perf_counter() - started:.0f} s\n", style="dim")
        done.append(section)
    return done, well


def keep(
    head: dict[str, str],
    sections: list[Section],
    *,
    name: str = "results.json",
    page: bool = False,
) -> None:
    """Write the results, and with ``page`` the documentation, too."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / name).write_text(as_json(head, sections))
    if page:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        tables = as_markdown(head, sections)
        PAGE.write_text(f"{before}{BEGIN}\n{tables}\n\n{END}{after}")
    for section in sections:
        if section.name == aims.ROW:
            chart = bars(section, "events/s", aims.CEILING)
            for folder in (RESULTS, PAGE.parent) if page else (RESULTS,):
                (folder / CHART).write_text(chart)


def main() -> None:
    """Run the sections named on the command line."""
    arguments = _arguments()
    logging.disable(logging.CRITICAL)  # the benchmarks cause failures on purpose
    console = Console(width=None if sys.stdout.isatty() else 120)
    if arguments.guard:
        sys.exit(not uvloop.run(guard(console, record=arguments.record)))
    sections = QUICK if arguments.quick else FULL
    if arguments.only:
        sections = {name: sections[name] for name in arguments.only}
    head = header(quick=arguments.quick)
    done, well = uvloop.run(run(sections, head, console))
    keep(head, done, page=arguments.page)
    console.print(f"written: {RESULTS}", highlight=False)
    sys.exit(not well)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--quick", action="store_true", help="a minute: small, and not to be quoted"
    )
    parser.add_argument("--only", action="append", choices=list(FULL), help="one section, or more")
    parser.add_argument("--page", action="store_true", help="also into docs/performance.md")
    parser.add_argument("--guard", action="store_true", help="compare with the recorded ratio")
    parser.add_argument("--record", action="store_true", help="record the ratio of --guard")
    arguments = parser.parse_args()
    if arguments.page and (arguments.quick or arguments.only):
        parser.error("the page has the whole of a full run: --page goes without --quick and --only")
    return arguments


if __name__ == "__main__":
    main()

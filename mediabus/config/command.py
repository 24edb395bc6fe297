"""`mediabus config`: check the settings, and print their JSON Schema."""

import asyncio
import dataclasses
import sys

import click
import msgspec

from mediabus.commands.context import Face
from mediabus.commands.help import examples
from mediabus.config.check import Problem, Report, check, variables
from mediabus.config.json_schema import json_schema
from mediabus.runtime.settings import NAMED_TABLES
from mediabus.runtime.visible import plain


@click.group()
def config() -> None:
    """Check the settings, or print their JSON Schema for editors."""


@config.command(
    "check",
    epilog=examples(
        "mediabus config check",
        "mediabus config check /etc/mediabus/mediabus.toml",
        "mediabus config check && systemctl reload mediabus",
    ),
)
@click.argument("file", required=False, type=click.Path(readable=False))
@click.pass_obj
def check_(face: Face, file: str | None) -> None:
    """Print every problem in the settings, without starting anything.

    Checks FILE, or else the file of --config or MEDIABUS_CONFIG, and the variables of this
    environment, by the parsers of the processes. The exit code is 0 without a problem, 1 with
    warnings only, and 2 if a process would not start.
    """
    chosen = dataclasses.replace(face, config=file or face.config)
    report = asyncio.run(check(chosen))
    for problem in report.problems:
        click.echo(_line(problem))
    click.echo(plain(_summary(chosen, report)))
    sys.exit(report.exit_code)


@config.command(
    "schema",
    short_help="JSON Schema of the settings file.",
    epilog=examples("mediabus config schema > mediabus.schema.json"),
)
def schema() -> None:
    """Print JSON Schema (2020-12) of the settings file, with descriptions and defaults.

    Editors complete and check mediabus.toml by it.
    """
    document = msgspec.json.encode(json_schema())
    click.echo(msgspec.json.format(document, indent=2).decode())


def _line(problem: Problem) -> str:
    color = "red" if problem.level == "error" else "yellow"
    return f"{click.style(f'{problem.level:<7}', fg=color)}  {plain(problem.text)}"


def _summary(face: Face, report: Report) -> str:
    """Return what was checked, and how many problems it has."""
    file = face.settings_file or "no file"
    given = _count(len(variables()), "variable")
    levels = [problem.level for problem in report.problems]
    problems = [_count(levels.count(level), level) for level in ("error", "warning")]
    found = ", ".join(problems) if levels else "no problem"
    counts = {name: len(getattr(report.settings, name, ())) for name in NAMED_TABLES}
    tables = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
    return f"{file} and {given}: {found}{f' ({tables})' if tables else ''}"


def _count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"

"""Help pages: quick to come, and each with examples."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from mediabus.main import COMMANDS, cli
from tests.support.commands import ROOT, environment


def pages(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command, by the words that one types."""
    found = []
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            found += pages(command, (*path, name))
        else:
            found.append((*path, name))
    return found


@pytest.mark.parametrize("path", pages(cli), ids=" ".join)
def test_every_command_has_a_page_with_examples(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(cli, [*path, "--help"])
    assert shown.exit_code == 0
    assert "Examples:\n" in shown.output
    assert f"mediabus {' '.join(path)}" in " ".join(shown.output.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_has_the_summaries_of_their_pages(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command
    assert command.help
    assert command.help.split("\n\n")[0].replace("\n", " ") == COMMANDS[name][1]


def test_the_help_page_imports_no_heavy_library() -> None:
    script = """
import sys
from mediabus.main import cli
cli(["--help"], standalone_mode=False)
print(sorted({"nats", "asyncpg", "aiohttp", "rich", "msgspec", "asyncio"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment(), capture_output=True, check=True
    )
    assert done.stdout.decode().splitlines()[-1] == "[]"


def test_an_unknown_command_is_reported() -> None:
    shown = CliRunner().invoke(cli, ["nonsense"])
    assert shown.exit_code == 2
    assert "No such command 'nonsense'" in shown.output

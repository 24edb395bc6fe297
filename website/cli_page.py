"""Make docs/reference/cli.md from the parser of the command line."""

import inspect
import re
from collections.abc import Iterator
from typing import Final

import click

from mediabus.main import cli
from website.markdown import escaped, fence, table

HEAD: Final = """\
# Command line

<!-- Made by `make reference` from the parser; a test fails when it is stale. -->

`mediabus COMMAND --help` prints each part of this page. The options of `mediabus` stand before the
command: `mediabus --config mediabus.toml up`.
"""

EXAMPLES: Final = "\b\nExamples:\n"
REMARK: Final = re.compile(r"(?<=\S)( {2,})(?=\S)")
"""What is between an example and a remark about it."""


def markdown() -> str:
    """Return the whole page."""
    context = click.Context(cli, info_name="mediabus")
    commands = dict(_commands(cli, context))
    lines = [HEAD, *_body(cli, context), *_list(commands)]
    for command_context, command in commands.items():
        depth = "#" * (1 + len(command_context.command_path.split()))
        lines += [f"{depth[:4]} {command_context.command_path}\n"]
        lines += _body(command, command_context)
    return "\n".join(lines).rstrip() + "\n"


def _commands(
    group: click.Group, context: click.Context
) -> Iterator[tuple[click.Context, click.Command]]:
    """Yield each command below a group, with the context that knows its path."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        yield inner, command
        if isinstance(command, click.Group):
            yield from _commands(command, inner)


def _list(commands: dict[click.Context, click.Command]) -> Iterator[str]:
    yield "## Commands\n"
    rows = []
    for context, command in commands.items():
        path = context.command_path
        summary = paragraphs(command.help)[0]
        rows.append((f"[`{path}`](#{path.replace(' ', '-')})", escaped(summary)))
    yield from table(("command", "what it does"), rows)


def _body(command: click.Command, context: click.Context) -> Iterator[str]:
    """Yield what the help page of a command has, but for the list of its subcommands."""
    for paragraph in paragraphs(command.help):
        yield f"{escaped(paragraph)}\n"
    yield fence("text", " ".join(command.get_usage(context).removeprefix("Usage: ").split()))
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    options = [
        (names, text)
        for names, text in filter(None, records)
        if "--help" not in names and (text or names.startswith("-"))
    ]
    if options:
        yield from table(
            ("option", "meaning"), ((_code(names), escaped(text)) for names, text in options)
        )
    if command.epilog:
        examples = inspect.cleandoc(command.epilog.removeprefix(EXAMPLES))
        yield fence("sh", REMARK.sub(r"\1# ", examples))


def _code(text: str) -> str:
    """Return code for a cell; GitHub and the site disagree about how to escape ``|`` in one."""
    return f"<code>{text.replace('|', '&#124;')}</code>" if "|" in text else f"`{text}`"


def paragraphs(text: str | None) -> list[str]:
    """Return the paragraphs of a help text, each as one line."""
    found = inspect.cleandoc(text or "").split("\n\n")
    return [" ".join(paragraph.replace("\b", "").split()) for paragraph in found]

"""`mediabus dead`: what no consumer could use."""

import asyncio
import datetime
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Final

import click
import msgspec

from consumers.dead_letters import (
    EVERY,
    DeadLetter,
    DeadLetters,
    NoSuchLetter,
    Tally,
    TooLarge,
    Wanted,
    tally,
)
from service.cli import tables
from service.cli.face import Face, json_lines
from service.cli.help import examples
from service.cli.output import local, plain


@click.group()
def dead() -> None:
    """Look at dead letters: messages that no consumer could use, with the reason."""


KINDS: Final = ("invalid", "rejected", "failed")
FILTERS: Final = (
    click.option("--consumer", metavar="NAME", help="Only those of this consumer."),
    click.option(
        "--kind", type=click.Choice(["invalid", "rejected", "failed"]), help="Only these."
    ),
    click.option("--type", metavar="TYPE", help="Only this event type, or such as 'download.*'."),
    click.option("--reason", metavar="TEXT", help="Only those with this in their reason."),
)


def _filters(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options that say which letters are meant, as one ``wanted``."""

    @functools.wraps(command)
    def with_wanted(
        *args: object,
        consumer: str | None,
        kind: str | None,
        type: str | None,  # noqa: A002 - click hands options over under their names
        reason: str | None,
        **options: object,
    ) -> None:
        wanted = Wanted(consumer=consumer, kind=kind, type=type, reason=reason)
        command(*args, wanted=wanted, **options)

    for option in reversed(FILTERS):
        with_wanted = option(with_wanted)
    return with_wanted


@dead.command(
    "list",
    epilog=examples(
        "mediabus dead list",
        "mediabus dead list --kind rejected --type 'download.*'",
        "mediabus dead list --limit 1000 --json | jq .reason",
    ),
)
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@json_lines
@click.pass_obj
@_filters
def list_(face: Face, limit: int, as_json: bool, wanted: Wanted) -> None:
    """Show the newest dead letters."""
    asyncio.run(_list(face, limit, wanted, as_json=as_json))


@dead.command(epilog=examples("mediabus dead stats", "mediabus dead stats --reason PostgreSQL"))
@json_lines
@click.pass_obj
@_filters
def stats(face: Face, as_json: bool, wanted: Wanted) -> None:
    """Count the dead letters by consumer, kind and event type.

    The reason shown is that of the newest one.
    """
    asyncio.run(_stats(face, wanted, as_json=as_json))


@dead.command(epilog=examples("mediabus dead show 7", "mediabus dead show 7 --json | jq .body"))
@click.argument("number", type=click.IntRange(min=1))
@json_lines
@click.pass_obj
def show(face: Face, number: int, as_json: bool) -> None:
    """Show a dead letter with its message as it came."""
    asyncio.run(_show(face, number, as_json=as_json))


_numbers = click.argument("numbers", type=click.IntRange(min=1), nargs=-1, metavar="[NUMBER]...")
_everything = click.option("--all", "everything", is_flag=True, help="All of them.")


@dead.command(
    epilog=examples(
        "mediabus dead retry 7 8",
        "mediabus dead retry --all",
        "mediabus dead retry --consumer notifier --kind failed",
    )
)
@_numbers
@_everything
@click.pass_obj
@_filters
def retry(face: Face, numbers: tuple[int, ...], everything: bool, wanted: Wanted) -> None:
    """Publish dead letters again, as they were.

    Every consumer sees their events again; the stored history has each of them once all the same.
    What still cannot be used comes back as a new dead letter.
    """
    _check(numbers, wanted, everything=everything)
    asyncio.run(_each(face, numbers, wanted, retry=True))


@dead.command(
    epilog=examples(
        "mediabus dead discard 7",
        "mediabus dead discard --kind invalid",
        "mediabus dead discard --all --yes",
    )
)
@_numbers
@_everything
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
@_filters
def discard(
    face: Face, numbers: tuple[int, ...], everything: bool, yes: bool, wanted: Wanted
) -> None:
    """Delete dead letters for good."""
    _check(numbers, wanted, everything=everything)
    if not (numbers or yes):
        which = "all" if everything else "all these"
        click.confirm(f"Delete {which} dead letters for good?", abort=True)
    asyncio.run(_each(face, numbers, wanted, retry=False))


def _check(numbers: tuple[int, ...], wanted: Wanted, *, everything: bool) -> None:
    if [bool(numbers), everything, wanted != EVERY].count(True) != 1:
        raise click.UsageError(
            "give the numbers of dead letters, or --all, or what they have in common"
        )


async def _list(face: Face, limit: int, wanted: Wanted, *, as_json: bool) -> None:

    async with face.connected() as bus:
        letters = await DeadLetters(bus).newest(limit, wanted)
    _print(letters, LIST_COLUMNS, as_json=as_json)


async def _stats(face: Face, wanted: Wanted, *, as_json: bool) -> None:

    async with face.connected() as bus:
        tallies = tally(await DeadLetters(bus).all(wanted))
    _print(tallies, STATS_COLUMNS, as_json=as_json)


LIST_COLUMNS: Final = ("number", "time", "consumer", "kind", "subject", "reason")
STATS_COLUMNS: Final = ("count", "consumer", "kind", "type", "newest", "reason")


def _print(
    things: Sequence[DeadLetter] | Sequence[Tally], columns: Sequence[str], *, as_json: bool
) -> None:
    rows = [[_cell(getattr(thing, column)) for column in columns] for thing in things]
    if as_json:
        for thing in things:
            click.echo(msgspec.json.encode(thing))
    elif sys.stdout.isatty():
        tables.show(columns, rows, nothing="no dead letters")
    else:
        for row in rows:
            click.echo("  ".join(row))


def _cell(value: object) -> str:
    if isinstance(value, datetime.datetime):
        return local(value)
    return plain("-" if value is None else str(value))


async def _show(face: Face, number: int, *, as_json: bool) -> None:

    async with face.connected() as bus:
        letter, body = await DeadLetters(bus).get(number)
    text = body.decode(errors="backslashreplace")
    fields = msgspec.to_builtins(letter)
    if as_json:
        click.echo(msgspec.json.encode({**fields, "body": text}))
        return
    for name, value in fields.items():
        click.echo(f"{click.style(f'{name:<12}', dim=True)}{plain(str(value))}")
    click.echo()
    click.echo("\n".join(plain(line) for line in text.splitlines()))


async def _each(face: Face, numbers: tuple[int, ...], wanted: Wanted, *, retry: bool) -> None:
    """Goes on past a letter that is gone or cannot be published again; the exit code tells."""
    failed = False
    async with face.connected() as bus:
        letters = DeadLetters(bus)
        chosen = numbers or tuple(letter.number for letter in await letters.all(wanted))
        for number in chosen:
            try:
                await (letters.retry(number) if retry else letters.discard(number))
            except (NoSuchLetter, TooLarge) as error:
                click.secho(f"mediabus: {error}", fg="red", err=True)
                failed = True
            else:
                click.echo(f"{number} {'published again' if retry else 'deleted'}")
    if not chosen:
        click.echo("no dead letters")
    if failed:
        raise click.exceptions.Exit(1)

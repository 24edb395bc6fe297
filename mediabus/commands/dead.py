"""`mediabus dead`: list, inspect, retry and discard dead letters."""

import asyncio
import datetime
import functools
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import click
import msgspec

from mediabus.commands import tables
from mediabus.commands.context import Face, json_lines
from mediabus.commands.help import examples
from mediabus.commands.output import local_time
from mediabus.consumers.dead_letters import (
    MATCH_ALL,
    DeadLetters,
    NoSuchDeadLetter,
    Tally,
    TooLarge,
    tally,
)
from mediabus.runtime.nats.client import NotAllowed
from mediabus.runtime.visible import json_line, plain
from mediabus.schemas.operations.dead_letters import DeadLetter, DeadLetterFilter


@click.group()
def dead() -> None:
    """Inspect, retry or discard dead letters: messages that a consumer could not process."""


KINDS: Final = ("invalid", "rejected", "failed")

_consumer = click.option("--consumer", metavar="NAME", help="Only those of this consumer.")
_kind = click.option("--kind", type=click.Choice(KINDS), help="Only those of this kind.")
_type = click.option(
    "--type", metavar="TYPE", help="Only this event type, or a pattern: 'media.*'."
)
_reason = click.option("--reason", metavar="TEXT", help="Only those whose reason contains TEXT.")


def _filters(command: Callable[..., None]) -> Callable[..., None]:
    """Add the four filter options to a command, which gets them as one ``wanted``."""

    @_consumer
    @_kind
    @_type
    @_reason
    @functools.wraps(command)
    def with_filters(*args: object, **options: object) -> None:
        filters = {name: options.pop(name) for name in ("consumer", "kind", "type", "reason")}
        command(*args, wanted=msgspec.convert(filters, DeadLetterFilter), **options)

    return with_filters


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
def list_(face: Face, limit: int, as_json: bool, wanted: DeadLetterFilter) -> None:
    """Show the newest dead letters."""
    asyncio.run(_list(face, limit, wanted, as_json=as_json))


@dead.command(epilog=examples("mediabus dead stats", "mediabus dead stats --reason PostgreSQL"))
@json_lines
@click.pass_obj
@_filters
def stats(face: Face, as_json: bool, wanted: DeadLetterFilter) -> None:
    """Count the dead letters by consumer, kind and event type.

    The reason shown is that of the newest one.
    """
    asyncio.run(_stats(face, wanted, as_json=as_json))


@dead.command(epilog=examples("mediabus dead show 7", "mediabus dead show 7 --json | jq .body"))
@click.argument("number", type=click.IntRange(min=1))
@json_lines
@click.pass_obj
def show(face: Face, number: int, as_json: bool) -> None:
    """Show a dead letter and the message in it."""
    asyncio.run(_show(face, number, as_json=as_json))


_numbers = click.argument("numbers", type=click.IntRange(min=1), nargs=-1, metavar="[NUMBER]...")
_everything = click.option("--all", "everything", is_flag=True, help="Select all dead letters.")


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
def retry(face: Face, numbers: tuple[int, ...], everything: bool, wanted: DeadLetterFilter) -> None:
    """Publish the messages of dead letters again.

    Every consumer gets their events again; the history still stores each event once. A message that
    fails again becomes a new dead letter.
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
@click.option("--yes", is_flag=True, help="Skip the confirmation.")
@click.pass_obj
@_filters
def discard(
    face: Face, numbers: tuple[int, ...], everything: bool, yes: bool, wanted: DeadLetterFilter
) -> None:
    """Delete dead letters permanently."""
    _check(numbers, wanted, everything=everything)
    if not (numbers or yes):
        which = "all" if everything else "all matching"
        click.confirm(f"Permanently delete {which} dead letters?", abort=True)
    if not everything or not asyncio.run(_discarded_all(face)):
        asyncio.run(_each(face, numbers, wanted, retry=False))


def _check(numbers: tuple[int, ...], wanted: DeadLetterFilter, *, everything: bool) -> None:
    if [bool(numbers), everything, wanted != MATCH_ALL].count(True) != 1:
        raise click.UsageError("give dead-letter numbers, --all, or a filter such as --kind")


async def _list(face: Face, limit: int, wanted: DeadLetterFilter, *, as_json: bool) -> None:
    async with face.connected() as bus:
        letters = await DeadLetters(bus).newest(limit, wanted)
    _print(letters, LIST_COLUMNS, as_json=as_json)


async def _stats(face: Face, wanted: DeadLetterFilter, *, as_json: bool) -> None:
    async with face.connected() as bus:
        tallies = tally(await DeadLetters(bus).all(wanted))
    _print(tallies, STATS_COLUMNS, as_json=as_json)


LIST_COLUMNS: Final = ("number", "time", "consumer", "kind", "subject", "reason")
STATS_COLUMNS: Final = ("count", "consumer", "kind", "type", "newest", "reason")


def _print(
    records: Sequence[DeadLetter] | Sequence[Tally], columns: Sequence[str], *, as_json: bool
) -> None:
    rows = [[_cell(getattr(record, column)) for column in columns] for record in records]
    if as_json:
        for record in records:
            click.echo(json_line(msgspec.json.encode(record)))
    elif sys.stdout.isatty():
        tables.show(columns, rows, nothing="no dead letters")
    else:
        for row in rows:
            click.echo("  ".join(row))


def _cell(value: object) -> str:
    if isinstance(value, datetime.datetime):
        return local_time(value)
    return plain("-" if value is None else str(value))


async def _show(face: Face, number: int, *, as_json: bool) -> None:
    async with face.connected() as bus:
        letter, body = await DeadLetters(bus).get(number)
    text = body.decode(errors="backslashreplace")
    fields = msgspec.to_builtins(letter)
    if as_json:
        click.echo(json_line(msgspec.json.encode({**fields, "body": text})))
        return
    for name, value in fields.items():
        click.echo(f"{click.style(f'{name:<12}', dim=True)}{plain(str(value))}")
    click.echo()
    click.echo("\n".join(plain(line) for line in text.splitlines()))


async def _discarded_all(face: Face) -> bool:
    """Delete all dead letters in one call. Return False if this key is not allowed to.

    Keys that were made by 0.1.0 may only delete dead letters one by one.
    """
    try:
        async with face.connected() as bus:
            count = await DeadLetters(bus).discard_all()
    except NotAllowed:
        return False
    click.echo(f"{count} deleted" if count else "no dead letters")
    return True


async def _each(
    face: Face, numbers: tuple[int, ...], wanted: DeadLetterFilter, *, retry: bool
) -> None:
    """Retry or discard each dead letter. Continue after an error, then exit with 1."""
    failed = False
    async with face.connected() as bus:
        letters = DeadLetters(bus)
        chosen = numbers or tuple(letter.number for letter in await letters.all(wanted))
        handle, done = letters.retry if retry else letters.discard, RETRIED if retry else DELETED
        # Retry one at a time, to keep the order of the events.
        window = 1 if retry else DISCARDED_AT_ONCE
        for start in range(0, len(chosen), window):
            batch = chosen[start : start + window]
            outcomes = await asyncio.gather(*(_attempt(handle, number) for number in batch))
            for number, error in zip(batch, outcomes, strict=True):
                if error is None:
                    click.echo(f"{number} {done}")
                else:
                    click.secho(f"mediabus: {plain(str(error))}", fg="red", err=True)
                    failed = True
    if not chosen:
        click.echo("no dead letters")
    if failed:
        raise click.exceptions.Exit(1)


DISCARDED_AT_ONCE: Final = 256
RETRIED: Final = "published again"
DELETED: Final = "deleted"


async def _attempt(handle: Callable[[int], Awaitable[None]], number: int) -> Exception | None:
    try:
        await handle(number)
    except (NoSuchDeadLetter, TooLarge) as error:
        return error
    return None

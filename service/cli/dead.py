"""`mediabus dead`: what no consumer could use."""

import asyncio
import sys

import click
import msgspec

from consumers.dead_letters import DeadLetter, DeadLetters
from service.cli import tables
from service.cli.face import Face, json_lines
from service.cli.help import examples
from service.cli.output import local, plain


@click.group()
def dead() -> None:
    """Look at dead letters: messages that no consumer could use, with the reason."""


@dead.command(
    "list",
    epilog=examples("mediabus dead list", "mediabus dead list --limit 1000 --json | jq .reason"),
)
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@json_lines
@click.pass_obj
def list_(face: Face, limit: int, as_json: bool) -> None:
    """Show the newest dead letters."""
    asyncio.run(_list(face, limit, as_json=as_json))


@dead.command(epilog=examples("mediabus dead show 7", "mediabus dead show 7 --json | jq .body"))
@click.argument("number", type=click.IntRange(min=1))
@json_lines
@click.pass_obj
def show(face: Face, number: int, as_json: bool) -> None:
    """Show a dead letter with its message as it came."""
    asyncio.run(_show(face, number, as_json=as_json))


_numbers = click.argument("numbers", type=click.IntRange(min=1), nargs=-1, metavar="[NUMBER]...")
_everything = click.option("--all", "everything", is_flag=True, help="All of them.")


@dead.command(epilog=examples("mediabus dead retry 7 8", "mediabus dead retry --all"))
@_numbers
@_everything
@click.pass_obj
def retry(face: Face, numbers: tuple[int, ...], everything: bool) -> None:
    """Publish dead letters again, as they were.

    Every consumer sees their events again; the stored history has each of them once all the same.
    What still cannot be used comes back as a new dead letter.
    """
    _check(numbers, everything=everything)
    asyncio.run(_each(face, numbers, retry=True))


@dead.command(epilog=examples("mediabus dead discard 7", "mediabus dead discard --all --yes"))
@_numbers
@_everything
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def discard(face: Face, numbers: tuple[int, ...], everything: bool, yes: bool) -> None:
    """Delete dead letters for good."""
    _check(numbers, everything=everything)
    if everything and not yes:
        click.confirm("Delete all dead letters for good?", abort=True)
    asyncio.run(_each(face, numbers, retry=False))


def _check(numbers: tuple[int, ...], *, everything: bool) -> None:
    if bool(numbers) == everything:
        raise click.UsageError("give the numbers of dead letters, or --all")


async def _list(face: Face, limit: int, *, as_json: bool) -> None:

    async with face.connected() as bus:
        letters = await DeadLetters(bus).newest(limit)
    if as_json:
        for letter in letters:
            click.echo(msgspec.json.encode(letter))
    elif sys.stdout.isatty():
        _table(letters)
    else:
        for letter in letters:
            click.echo("  ".join(_columns(letter)))


def _columns(letter: DeadLetter) -> tuple[str, ...]:

    return (
        str(letter.number),
        local(letter.time),
        plain(letter.consumer),
        plain(letter.kind),
        plain(letter.subject),
        plain(letter.reason),
    )


def _table(letters: list[DeadLetter]) -> None:

    tables.show(
        ("number", "time", "consumer", "kind", "subject", "reason"),
        [_columns(letter) for letter in letters],
        nothing="no dead letters",
    )


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


async def _each(face: Face, numbers: tuple[int, ...], *, retry: bool) -> None:

    async with face.connected() as bus:
        letters = DeadLetters(bus)
        chosen = numbers or tuple(letter.number for letter in await letters.all())
        for number in chosen:
            await (letters.retry(number) if retry else letters.discard(number))
            click.echo(f"{number} {'published again' if retry else 'deleted'}")
    if not chosen:
        click.echo("no dead letters")

"""`mediabus history`: what happened, from the events table, by way of NATS."""

import asyncio
import datetime
import sys
from collections.abc import AsyncIterator
from typing import Any, Final

import click
import msgspec

from schemas.commands import CountHistory, Counts, HistoryEvent, ListHistory, Page
from schemas.events import Severity
from service.cli.asking import ask
from service.cli.face import Face, Moment, json_lines, note_a_slip
from service.cli.help import examples
from service.cli.output import COLOURS, line, local, plain, what
from service.cli.tables import show
from service.runtime.bus import Bus

PAGE: Final = 500
"""The most events that one request may ask for."""


@click.command(
    epilog=examples(
        "mediabus history                                   the newest 50",
        "mediabus history --category downloads --since 1d",
        "mediabus history --severity error --all --json | jq .data.error_message",
        "mediabus history --resource media_item:0198c1f2-…  the life of one item",
        "mediabus history --actor user:42 --until 2026-11-01",
        "mediabus history --count --since 7d                how many of each type",
    )
)
@click.option("--category", help="media, downloads, system, or one of your own.")
@click.option("--type", "event_type", help="Such as download.failed.")
@click.option("--severity", type=click.Choice(["info", "warning", "error"]))
@click.option("--actor", metavar="[KIND][:ID]", help="Who did it: user:42, user or :42.")
@click.option("--resource", metavar="[KIND][:ID]", help="What it is about: media_item:UUID.")
@click.option("--since", type=Moment(), help="From then on: 10m, 1h, 2d, 2026-11-22T10:00.")
@click.option("--until", type=Moment(), help="Before then.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--all", "everything", is_flag=True, help="All of them, however many.")
@click.option("--after", metavar="NEXT", help="The page after the one that ended with NEXT.")
@click.option("--count", is_flag=True, help="How many there are of each type.")
@json_lines
@click.pass_obj
def history(face: Face, /, **options: Any) -> None:  # noqa: ANN401 - as click took them
    """Show what happened, newest first."""
    asked = Asked(**options)
    note_a_slip(event_type=asked.event_type, category=asked.category)
    asyncio.run(_count(face, asked) if asked.count else _list(face, asked))


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The options of the command."""

    category: str | None
    event_type: str | None
    severity: Severity | None
    actor: str | None
    resource: str | None
    since: datetime.datetime | None
    until: datetime.datetime | None
    limit: int
    everything: bool
    after: str | None
    count: bool
    as_json: bool


def filters(asked: Asked) -> dict[str, Any]:
    """The fields of the request that the options mean."""
    actor_type, _, actor_id = (asked.actor or "").partition(":")
    resource_type, _, resource_id = (asked.resource or "").partition(":")
    given = {
        "category": asked.category,
        "type": asked.event_type,
        "severity": asked.severity,
        "actor_type": actor_type,
        "actor_id": actor_id,
        "resource_type": resource_type,
        "resource_id": resource_id,
        "since": asked.since,
        "until": asked.until,
    }
    return {name: value for name, value in given.items() if value}


async def _list(face: Face, asked: Asked) -> None:
    async with face.connected() as bus:
        in_a_table: list[HistoryEvent] = []
        after = None
        async for page in _pages(bus, asked):
            after = page.next
            if asked.as_json:
                for event in page.items:
                    click.echo(msgspec.json.encode(event))
            elif sys.stdout.isatty():
                in_a_table += page.items
            else:
                for event in page.items:
                    click.echo(_line(event))
    if sys.stdout.isatty() and not asked.as_json:
        _table(in_a_table)
    if after:
        click.secho(f"there is more: add --after {after}", dim=True, err=True)


async def _pages(bus: Bus, asked: Asked) -> AsyncIterator[Page[HistoryEvent]]:
    """Page after page, until there are enough."""

    left, after = asked.limit, asked.after
    wanted = filters(asked)
    while asked.everything or left > 0:
        size = PAGE if asked.everything else min(left, PAGE)
        request = ListHistory(**wanted, limit=size, after=after)
        page = await ask(bus, "history.list", request, Page[HistoryEvent])
        yield page
        left, after = left - len(page.items), page.next
        if after is None:
            return


def _line(event: HistoryEvent) -> str:

    return line(
        time=event.time,
        severity=event.severity,
        event_type=event.type,
        about=_about(event),
        actor=_actor(event),
    )


def _about(event: HistoryEvent) -> str:

    return what(msgspec.json.decode(event.data), event.resource_type, event.resource_id)


def _actor(event: HistoryEvent) -> str | None:
    return f"{event.actor_type}:{event.actor_id}" if event.actor_type else None


def _table(events: list[HistoryEvent]) -> None:

    show(
        ("time", "type", "what", "actor"),
        [
            (
                local(event.time),
                (plain(event.type), COLOURS.get(event.severity)),
                _about(event),
                plain(_actor(event) or ""),
            )
            for event in events
        ],
        nothing="nothing happened that matches",
    )


async def _count(face: Face, asked: Asked) -> None:

    async with face.connected() as bus:
        counts = await ask(bus, "history.count", CountHistory(**filters(asked)), Counts)
    if asked.as_json:
        click.echo(msgspec.json.encode(counts))
        return
    for event_type, count in counts.by_type.items():
        click.echo(f"{count:>10}  {event_type}")
    click.echo(f"{counts.total:>10}  in all")

"""`mediabus history`: events of the history, requested over NATS."""

import asyncio
import datetime
import sys
from collections.abc import AsyncIterator
from typing import Any, Final

import click
import msgspec

from mediabus.api.request import ask
from mediabus.commands.context import Face, Moment, json_lines, note_unregistered
from mediabus.commands.help import examples
from mediabus.commands.output import COLOURS, actor_text, event_line, local_time, summary_of
from mediabus.commands.tables import show
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.visible import json_line, plain
from mediabus.schemas.events import Severity
from mediabus.schemas.operations.requests import (
    CountHistory,
    Counts,
    HistoryEvent,
    ListHistory,
    Page,
)

PAGE: Final = 500
"""Events in one page, the maximum of ``history.list``."""


@click.command(
    epilog=examples(
        "mediabus history                                   the newest 50 events",
        "mediabus history --category downloads --since 1d",
        "mediabus history --severity error --all --json | jq .data.error_message",
        "mediabus history --resource media_item:0198c1f2-…  the life of one item",
        "mediabus history --actor user:42 --until 2026-11-01",
        "mediabus history --count --since 7d                count the events of each type",
    )
)
@click.option("--category", help="Category: media, downloads, system, or one of your own.")
@click.option("--type", "event_type", help="Event type, such as download.failed.")
@click.option("--severity", type=click.Choice(["info", "warning", "error"]))
@click.option("--actor", metavar="[KIND][:ID]", help="Actor: user:42, user or :42.")
@click.option("--resource", metavar="[KIND][:ID]", help="Resource: media_item:UUID.")
@click.option(
    "--extension",
    "extensions",
    metavar="NAME=VALUE",
    multiple=True,
    help="Extension attribute, such as traceparent=00-…; repeatable.",
)
@click.option("--since", type=Moment(), help="Events since then: 10m, 1h, 2d, 2026-11-22T10:00.")
@click.option("--until", type=Moment(), help="Events before then.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--all", "everything", is_flag=True, help="Show all events, without a limit.")
@click.option("--after", metavar="NEXT", help="Continue after the page whose `next` was NEXT.")
@click.option("--count", is_flag=True, help="Count the events of each type.")
@json_lines
@click.pass_obj
def history(face: Face, /, **options: Any) -> None:  # noqa: ANN401 - as click took them
    """Show stored events, newest first."""
    query = Query(**options)
    note_unregistered(event_type=query.event_type, category=query.category)
    asyncio.run(_count(face, query) if query.count else _list(face, query))


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """The options of the command."""

    category: str | None
    event_type: str | None
    severity: Severity | None
    actor: str | None
    resource: str | None
    extensions: tuple[str, ...]
    since: datetime.datetime | None
    until: datetime.datetime | None
    limit: int
    everything: bool
    after: str | None
    count: bool
    as_json: bool


def filters(query: Query) -> dict[str, Any]:
    """Return the fields of the request for these options."""
    actor_type, _, actor_id = (query.actor or "").partition(":")
    resource_type, _, resource_id = (query.resource or "").partition(":")
    given = {
        "category": query.category,
        "type": query.event_type,
        "severity": query.severity,
        "actor_type": actor_type,
        "actor_id": actor_id,
        "resource_type": resource_type,
        "resource_id": resource_id,
        "extensions": _extensions(query.extensions),
        "since": query.since,
        "until": query.until,
    }
    return {name: value for name, value in given.items() if value}


def _extensions(given: tuple[str, ...]) -> dict[str, str]:
    """Parse attributes given as ``NAME=VALUE``. Raises BadParameter."""
    pairs = [text.partition("=") for text in given]
    for name, equals, value in pairs:
        if not (name and equals):
            raise click.BadParameter(
                f"{name or value!r} is not NAME=VALUE, such as partitionkey=7",
                param_hint="--extension",
            )
    return {name: value for name, _, value in pairs}


async def _list(face: Face, query: Query) -> None:
    async with face.connected() as bus:
        for_table: list[HistoryEvent] = []
        after = None
        async for page in _pages(bus, query):
            after = page.next
            if query.as_json:
                for event in page.items:
                    click.echo(json_line(msgspec.json.encode(event)))
            elif sys.stdout.isatty():
                for_table += page.items
            else:
                for event in page.items:
                    click.echo(_line(event))
    if sys.stdout.isatty() and not query.as_json:
        _table(for_table)
    if after:
        click.secho(f"more events match; to continue, add --after {after}", dim=True, err=True)


async def _pages(bus: Bus, query: Query) -> AsyncIterator[Page[HistoryEvent]]:
    """Yield pages until the limit is reached."""
    left, after = query.limit, query.after
    wanted = filters(query)
    while query.everything or left > 0:
        size = PAGE if query.everything else min(left, PAGE)
        request = ListHistory(**wanted, limit=size, after=after)
        page = await ask(bus, "history.list", request, Page[HistoryEvent])
        yield page
        left, after = left - len(page.items), page.next
        if after is None:
            return


def _line(event: HistoryEvent) -> str:
    return event_line(
        time=event.time,
        severity=event.severity,
        event_type=event.type,
        about=_about(event),
        actor=_actor(event),
    )


def _about(event: HistoryEvent) -> str:
    return summary_of(msgspec.json.decode(event.data), event.resource_type, event.resource_id)


def _actor(event: HistoryEvent) -> str | None:
    if event.actor_type is None:
        return None
    return actor_text(f"{event.actor_type}:{event.actor_id}", is_verified=event.actor_verified)


def _table(events: list[HistoryEvent]) -> None:
    show(
        ("time", "type", "what", "actor"),
        [
            (
                local_time(event.time),
                (plain(event.type), COLOURS.get(event.severity)),
                _about(event),
                plain(_actor(event) or ""),
            )
            for event in events
        ],
        nothing="no events match",
    )


async def _count(face: Face, query: Query) -> None:
    async with face.connected() as bus:
        counts = await ask(bus, "history.count", CountHistory(**filters(query)), Counts)
    if query.as_json:
        click.echo(json_line(msgspec.json.encode(counts)))
        return
    for event_type, count in counts.by_type.items():
        click.echo(f"{count:>10}  {plain(event_type)}")
    click.echo(f"{counts.total:>10}  total")

"""`mediabus tail`: follow events, starting now or at a time in the past."""

import asyncio
import contextlib
import datetime

import click
import msgspec

from mediabus.api.stream import read_stream
from mediabus.commands.context import Face, Moment, json_lines, note_unregistered
from mediabus.commands.help import examples
from mediabus.commands.notes import note
from mediabus.commands.output import actor_text, event_line, summary_of
from mediabus.consumers.daemon import published_at
from mediabus.runtime.nats.stream_reader import Stored
from mediabus.runtime.visible import json_line, plain
from mediabus.schemas import codec
from mediabus.schemas.subjects import EVENTS_SUBJECTS, filter_for


@click.command(
    epilog=examples(
        "mediabus tail                              everything from now on",
        "mediabus tail downloads --since 1h         a category, with the last hour",
        "mediabus tail download.failed              a type",
        "mediabus tail 'download.*'                 all types of a kind",
        "mediabus tail 'events.*.*.*.0198c1f2-…'    a NATS subject: the life of one item",
        "mediabus tail --since 1d --no-follow --json | jq .type | sort | uniq -c",
    )
)
@click.argument("wanted", metavar="[FILTER]", default=">")
@click.option("--since", type=Moment(), help="Start then: 10m, 1h, 2d, 2026-11-22T10:00.")
@click.option(
    "--follow/--no-follow", default=True, help="Wait for more events, or stop after the last."
)
@json_lines
@click.pass_obj
def tail(
    face: Face, wanted: str, since: datetime.datetime | None, follow: bool, as_json: bool
) -> None:
    """Show events as they happen.

    FILTER is a category, an event type, or a NATS subject that starts with "events.".
    """
    subjects = subjects_of(wanted)
    _note_unknown_name(wanted)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_tail(face, subjects, since, follow=follow, as_json=as_json))


def subjects_of(wanted: str) -> str:
    """Return the NATS subjects of a filter. Raises BadParameter."""
    tokens = wanted.split(".")
    unusable = any(not token or not token.isprintable() or " " in token for token in tokens)
    if unusable or ">" in tokens[:-1]:
        raise click.BadParameter(
            f"{wanted!r} is not a filter: use a category, a type or a subject: 'events.media.>'",
            param_hint="FILTER",
        )
    if wanted in {">", "*"}:
        return EVENTS_SUBJECTS
    if tokens[0] == "events" and len(tokens) > 1:
        return wanted
    if len(tokens) == 1:
        return filter_for(category=wanted)
    if tokens[1:] in (["*"], [">"]):
        return filter_for(event_type=tokens[0])
    return filter_for(event_type=wanted)


def _note_unknown_name(wanted: str) -> None:
    if "*" in wanted or ">" in wanted or wanted.startswith("events."):
        return
    if "." in wanted:
        note_unregistered(event_type=wanted)
    else:
        note_unregistered(category=wanted)


async def _tail(
    face: Face, subjects: str, since: datetime.datetime | None, *, follow: bool, as_json: bool
) -> None:
    async with face.connected() as bus:
        async for message in read_stream(bus, subjects, since, follow=follow, note=note):
            _show(message, as_json=as_json, trust_actor=bus.trusts_actors)


def _show(message: Stored, *, as_json: bool, trust_actor: bool) -> None:
    try:
        envelope = codec.decode(
            message.data,
            message.headers,
            published_at=lambda: published_at(message.headers, message.time),
            trust_actor=trust_actor,
        )
    except codec.InvalidEvent as error:
        where = f"{message.subject}, number {message.sequence}"
        click.echo(plain(f"invalid event at {where}: {error}"), err=True)
        return
    if as_json:
        shown = msgspec.structs.replace(envelope, has_time=True)
        click.echo(json_line(codec.encode_any(shown)))
        return
    resource = envelope.resource
    click.echo(
        event_line(
            time=envelope.time,
            severity=envelope.severity,
            event_type=envelope.type,
            about=summary_of(
                envelope.fields(),
                resource.type if resource else None,
                resource.id if resource else None,
            ),
            actor=actor_text(str(envelope.actor), is_verified=envelope.actor_verified)
            if envelope.actor
            else None,
        )
    )

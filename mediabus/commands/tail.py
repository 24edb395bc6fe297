"""`mediabus tail`: events as they happen, and those that happened before."""

import asyncio
import contextlib
import datetime

import click
from nats.aio.msg import Msg

from schemas import codec
from schemas.subjects import EVENTS_SUBJECTS, filter_for
from service.cli.face import Face, Moment, json_lines, note_a_slip
from service.cli.help import examples
from service.cli.output import line, plain, what
from service.cli.stream import read_stream


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
@click.option("--follow/--no-follow", default=True, help="Wait for more, or stop when all is said.")
@json_lines
@click.pass_obj
def tail(
    face: Face, wanted: str, since: datetime.datetime | None, follow: bool, as_json: bool
) -> None:
    """Show events as they happen.

    FILTER is a category, an event type, or a NATS subject that starts with "events.".
    """
    subjects = subjects_of(wanted)
    _note_a_slip(wanted)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_tail(face, subjects, since, follow=follow, as_json=as_json))


def subjects_of(wanted: str) -> str:
    """The NATS subjects that a filter means. Raises BadParameter."""

    tokens = wanted.split(".")
    unusable = any(not token or not token.isprintable() or " " in token for token in tokens)
    if unusable or ">" in tokens[:-1]:
        raise click.BadParameter(
            f"{wanted!r} is no filter: say a category, a type or a subject: 'events.media.>'",
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


def _note_a_slip(wanted: str) -> None:
    if "*" in wanted or ">" in wanted or wanted.startswith("events."):
        return
    if "." in wanted:
        note_a_slip(event_type=wanted)
    else:
        note_a_slip(category=wanted)


async def _tail(
    face: Face, subjects: str, since: datetime.datetime | None, *, follow: bool, as_json: bool
) -> None:

    async with face.connected() as bus:
        async for message in read_stream(bus, subjects, since, follow=follow):
            _show(message, as_json=as_json)


def _show(message: Msg, *, as_json: bool) -> None:

    try:
        envelope = codec.decode(message.data, message.headers)
    except codec.InvalidEvent as error:
        where = f"{message.subject}, number {message.metadata.sequence.stream}"
        click.echo(plain(f"no event at {where}: {error}"), err=True)
        return
    if as_json:
        click.echo(codec.encode(envelope))
        return
    resource = envelope.resource
    click.echo(
        line(
            time=envelope.time,
            severity=envelope.severity,
            event_type=envelope.type,
            about=what(
                envelope.fields(),
                resource.type if resource else None,
                resource.id if resource else None,
            ),
            actor=str(envelope.actor) if envelope.actor else None,
        )
    )

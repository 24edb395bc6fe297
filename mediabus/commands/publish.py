"""`mediabus publish`: says an event from the command line."""

import asyncio
import datetime
import getpass
import sys

import click
import msgspec

from schemas import codec
from schemas.envelope import Envelope
from schemas.identity import uuid7
from service.cli.face import Face, actor_from, note_a_slip, resource_from
from service.cli.help import examples


@click.command(
    epilog=examples(
        """mediabus publish job.executed --data '{"job_name": "backup"}' --actor job:backup""",
        """mediabus publish media_file.imported --data '{"path": "/media/dune.mkv"}' \\""",
        """    --resource media_item:0198c1f2-7a3b-7c4d-8e5f-6a7b8c9d0e1f""",
        """curl -s https://example.org/it.json | mediabus publish shop.it_happened --data -""",
    )
)
@click.argument("event_type", metavar="TYPE")
@click.option("--data", metavar="JSON", default="{}", help="What happened; - reads it from stdin.")
@click.option("--actor", metavar="KIND:ID", help="Who did it; you, without it.")
@click.option("--resource", metavar="KIND:ID", help="What it is about.")
@click.option("--correlation", metavar="ID", help="Shared by all events of one cause.")
@click.option("--category", help="For a type that is not registered; other, without it.")
@click.option("--severity", type=click.Choice(["info", "warning", "error"]))
@click.pass_obj
def publish(  # noqa: PLR0917 - click passes its options by keyword
    face: Face,
    event_type: str,
    data: str,
    actor: str | None,
    resource: str | None,
    correlation: str | None,
    category: str | None,
    severity: str | None,
) -> None:
    """Publish an event and print its id, once it is stored.

    TYPE is registered (`mediabus schema markdown` lists them), and then its data must fit, or any
    other name of your own, such as shop.it_happened.
    """
    attributes = {
        "specversion": "1.0",
        "type": event_type,
        "source": "mediabus/cli",
        "time": datetime.datetime.now(datetime.UTC),
        "subject": str(resource_from(resource)) if resource else None,
        "correlationid": correlation,
        "category": category,
        "severity": severity,
    }
    who = actor_from(actor or f"user:{getpass.getuser()}")
    attributes |= {"actortype": who.type, "actorid": who.id}
    said = sys.stdin.buffer.read() if data == "-" else data.encode(errors="surrogateescape")
    envelope = _envelope({name: value for name, value in attributes.items() if value}, said)
    note_a_slip(event_type=event_type)
    asyncio.run(_publish(face, envelope))
    click.echo(str(envelope.id))


def _envelope(attributes: dict[str, object], data: bytes) -> Envelope:
    """The event as its consumers will read it. Raises InvalidEvent."""

    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise codec.InvalidEvent(f"--data is not JSON: {error}") from error
    whole = {**attributes, "id": uuid7(), "data": msgspec.Raw(data)}
    return codec.decode(msgspec.json.encode(whole))


async def _publish(face: Face, envelope: Envelope) -> None:
    async with face.connected() as bus:
        await bus.publish_envelope(envelope)

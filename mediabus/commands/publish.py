"""`mediabus publish`: publish an event from the command line."""

import asyncio
import datetime
import getpass
import sys

import click
import msgspec

from mediabus.commands.context import Face, actor_from, note_unregistered, resource_from
from mediabus.commands.help import examples
from mediabus.schemas import codec
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.identity import uuid7


@click.command(
    epilog=examples(
        """mediabus publish job.executed --data '{"job_name": "backup"}' --actor job:backup""",
        """mediabus publish media_file.imported --data '{"path": "/media/dune.mkv"}' \\""",
        """    --resource media_item:0198c1f2-7a3b-7c4d-8e5f-6a7b8c9d0e1f""",
        """curl -s https://example.org/it.json | mediabus publish shop.it_happened --data -""",
    )
)
@click.argument("event_type", metavar="TYPE")
@click.option("--data", metavar="JSON", default="{}", help="Data of the event; - reads stdin.")
@click.option("--actor", metavar="KIND:ID", help="Who did it; default: your user name.")
@click.option("--resource", metavar="KIND:ID", help="What the event is about.")
@click.option(
    "--correlation", metavar="ID", help="Correlation id, shared by all events of one cause."
)
@click.option("--category", help="Category of an unregistered type; default: other.")
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
    """Publish an event, wait until NATS has stored it, and print its id.

    TYPE is a registered type or one of your own, such as shop.it_happened. The data of a registered
    type must fit its schema; `mediabus schema markdown` lists the types.
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
    sender = actor_from(actor or f"user:{getpass.getuser()}")
    attributes |= {"actortype": sender.type, "actorid": sender.id}
    payload = sys.stdin.buffer.read() if data == "-" else data.encode(errors="surrogateescape")
    envelope = _envelope({name: value for name, value in attributes.items() if value}, payload)
    note_unregistered(event_type=event_type)
    asyncio.run(_publish(face, envelope))
    click.echo(str(envelope.id))


def _envelope(attributes: dict[str, object], data: bytes) -> Envelope:
    """Return the event as its consumers will decode it. Raises InvalidEvent."""
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise codec.InvalidEvent(f"--data is not JSON: {error}") from error
    whole = {**attributes, "id": uuid7(), "data": msgspec.Raw(data)}
    return codec.decode(msgspec.json.encode(whole))


async def _publish(face: Face, envelope: Envelope) -> None:
    async with face.connected() as bus:
        if bus.is_guest:
            envelope = msgspec.structs.replace(envelope, source="cli")
        await bus.publish_envelope(envelope)

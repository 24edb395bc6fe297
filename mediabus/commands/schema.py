"""`mediabus schema`: the schemas of events and operations, for programs and people."""

import click
import msgspec

from mediabus.commands.help import examples
from mediabus.schemas.docs import contracts as export
from mediabus.schemas.docs import markdown as catalogue


@click.group()
def schema() -> None:
    """Print the schemas of events and operations."""


@schema.command(
    short_help="JSON Schema of the envelope and of each event type.",
    epilog=examples("mediabus schema jsonschema > events.schema.json"),
)
def jsonschema() -> None:
    """Print JSON Schema (2020-12) of the envelope and of the data of each event type."""
    _print(export.json_schema())


@schema.command(
    short_help="AsyncAPI 3.1 of events and operations.",
    epilog=examples("mediabus schema asyncapi > asyncapi.json"),
)
def asyncapi() -> None:
    """Print AsyncAPI 3.1: the subjects of events, and the requests and replies of operations."""
    _print(export.async_api())


@schema.command(epilog=examples("mediabus schema markdown > docs/events.md"))
def markdown() -> None:
    """Print the catalogue of events in Markdown, as in docs/events.md."""
    click.echo(catalogue.markdown(), nl=False)


def _print(document: export.Document) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2))

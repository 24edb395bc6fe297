"""`mediabus schema`: what may be said, for programs and for people."""

import click
import msgspec

from schemas import catalogue, export
from service.cli.help import examples


@click.group()
def schema() -> None:
    """Print what may be said on the bus, derived from the event types."""


@schema.command(
    short_help="JSON Schema of the envelope and of each type.",
    epilog=examples("mediabus schema jsonschema > events.schema.json"),
)
def jsonschema() -> None:
    """Print JSON Schema (2020-12): the envelope, and the data of each event type."""
    _print(export.json_schema())


@schema.command(
    short_help="AsyncAPI 3.0 of subjects and operations.",
    epilog=examples("mediabus schema asyncapi > asyncapi.json"),
)
def asyncapi() -> None:
    """Print AsyncAPI 3.0: the subjects of events, and the requests and replies of operations."""
    _print(export.async_api())


@schema.command(epilog=examples("mediabus schema markdown > docs/events.md"))
def markdown() -> None:
    """Print the catalogue of events, as in docs/events.md."""

    click.echo(catalogue.markdown(), nl=False)


def _print(document: export.Document) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2))

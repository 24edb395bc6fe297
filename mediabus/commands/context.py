"""What the commands share: global options, settings, connection, parameter types."""

import contextlib
import dataclasses
import datetime
import difflib
import logging
from collections.abc import AsyncIterator
from typing import Final, get_args

import click
import msgspec

from mediabus.api.moments import moment_from
from mediabus.runtime.nats.bus import Bus, connect
from mediabus.runtime.process.file_permissions import exposed
from mediabus.runtime.settings import Settings
from mediabus.runtime.settings_file import load, resolved, settings_path
from mediabus.runtime.text_files import expanded
from mediabus.runtime.visible import plain
from mediabus.schemas.codec import ANY_CATEGORY
from mediabus.schemas.events import EVENT_TYPES, Category
from mediabus.schemas.identity import Actor, Resource

CONNECT_WITHIN: Final = 2.0
"""Seconds that a command waits for NATS. Daemons wait until cancelled."""


@dataclasses.dataclass(frozen=True)
class Face:
    """The global options, given before the command."""

    config: str | None
    data_dir: str | None
    nats: str | None

    def settings(self) -> Settings:
        """Load the settings and apply the options. Raises SettingsError."""
        return self.with_options(load(self.config, data_dir=self.data_dir))

    def with_options(self, settings: Settings) -> Settings:
        """Return the settings, overridden by the options."""
        if self.data_dir is not None:
            settings = msgspec.structs.replace(settings, data_dir=expanded(self.data_dir))
        if self.nats is not None:
            nats = msgspec.structs.replace(settings.nats, url=self.nats)
            settings = msgspec.structs.replace(settings, nats=nats)
        return settings

    @property
    def settings_file(self) -> str | None:
        """Return the settings file that ``settings`` reads, or None."""
        return settings_path(self.config, data_dir=self.data_dir)

    def resolved_settings(self) -> Settings:
        """Load the settings; unset URLs are those of a running ``mediabus up``."""
        return resolved(self.settings())

    def exposed(self) -> list[str]:
        """Return a warning for each file with secrets that other users can read."""
        return exposed(self.settings_file, self.settings())

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[Bus]:
        """Connect to NATS. Raises CannotConnect."""
        # Commands print their errors; the log is for daemons.
        logging.getLogger("mediabus").addHandler(logging.NullHandler())
        logging.getLogger("mediabus").propagate = False
        settings = self.resolved_settings()
        async with connect(settings.nats, name="mediabus cli", wait=CONNECT_WITHIN) as bus:
            yield bus


class Moment(click.ParamType[datetime.datetime]):
    """A point in time, such as ``10m``, ``1h`` or ``2d`` ago, or a date with an optional time.

    A time without an offset is local.
    """

    name = "when"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime.datetime:
        try:
            return moment_from(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def actor_from(text: str) -> Actor:
    """Parse an actor, such as ``user:42``. Raises BadParameter."""
    kind, _, actor_id = text.partition(":")
    try:
        return msgspec.convert({"type": kind, "id": actor_id}, Actor)
    except msgspec.ValidationError as error:
        raise click.BadParameter(
            f"invalid actor {text!r}: use user:ID, system:ID or job:ID", param_hint="--actor"
        ) from error


def resource_from(text: str) -> Resource:
    """Parse a resource, such as ``media_item:UUID``. Raises BadParameter."""
    kind, _, resource_id = text.partition(":")
    try:
        return msgspec.convert({"type": kind, "id": resource_id}, Resource)
    except msgspec.ValidationError as error:
        raise click.BadParameter(
            f"invalid resource {text!r}: use KIND:ID, such as media_item:0198…",
            param_hint="--resource",
        ) from error


def note_unregistered(*, event_type: str | None = None, category: str | None = None) -> None:
    """Note on stderr that a type or category is not registered: it may be a typo."""
    categories = (*get_args(Category), ANY_CATEGORY)
    for kind, name, known in (
        ("type", event_type, EVENT_TYPES),
        ("category", category, categories),
    ):
        if name and name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            suggestion = f" (did you mean {close[0]}?)" if close else ""
            click.echo(f"note: {plain(name)} is not a registered {kind}{suggestion}", err=True)


json_lines = click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")

"""What the commands have in common: their options, their settings, their connection."""

import contextlib
import dataclasses
import datetime
import difflib
import logging
import os
import re
from collections.abc import AsyncIterator
from typing import Final, get_args

import click
import msgspec

from schemas.codec import ANY_CATEGORY
from schemas.events import EVENT_TYPES, Category
from schemas.identity import Actor, Resource
from service.runtime.bus import Bus, connect
from service.runtime.exposed import exposed
from service.runtime.settings import Settings, load, resolved

CONNECT_WITHIN: Final = 2.0
"""Seconds in which a server must be there for a command; daemons wait for ever."""


@dataclasses.dataclass(frozen=True)
class Face:
    """The options before the command."""

    config: str | None
    data_dir: str | None
    nats: str | None

    def settings(self) -> Settings:
        """The settings, with the options on top. Raises SettingsError."""

        settings = load(self.config)
        if self.data_dir is not None:
            settings = msgspec.structs.replace(settings, data_dir=self.data_dir)
        if self.nats is not None:
            nats = msgspec.structs.replace(settings.nats, url=self.nats)
            settings = msgspec.structs.replace(settings, nats=nats)
        return settings

    def resolved_settings(self) -> Settings:
        """The settings, with the servers of a running ``mediabus up`` where they name none."""

        return resolved(self.settings())

    def exposed(self) -> list[str]:
        """A line for each file with secrets that others may read."""
        return exposed(self.config or os.environ.get("MEDIABUS_CONFIG"), self.settings())

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[Bus]:
        """A connection to NATS that is there, or CannotConnect."""

        # A command says itself what matters; the log is for daemons.
        logging.getLogger("mediabus").addHandler(logging.NullHandler())
        logging.getLogger("mediabus").propagate = False
        settings = self.resolved_settings()
        async with connect(settings.nats, name="mediabus cli", wait=CONNECT_WITHIN) as bus:
            yield bus


class Moment(click.ParamType[datetime.datetime]):
    """A moment: ``90s``, ``10m``, ``1h``, ``2d`` ago, or a date and perhaps a time, local unless it
    says its offset."""

    name = "when"
    AGO: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
    SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime.datetime:
        text = str(value)
        try:
            ago = self.AGO.fullmatch(text)
            if ago:
                seconds = float(ago[1]) * self.SECONDS[ago[2]]
                return datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)
            return datetime.datetime.fromisoformat(text).astimezone(datetime.UTC)
        except (ValueError, OverflowError):
            self.fail(
                f"{text!r} is no moment: say 90s, 10m, 1h, 2d, 2026-11-22 or 2026-11-22T10:00",
                param,
                ctx,
            )


def actor_from(text: str) -> Actor:
    """``user:42`` as an actor. Raises BadParameter."""

    kind, _, actor_id = text.partition(":")
    try:
        return msgspec.convert({"type": kind, "id": actor_id}, Actor)
    except msgspec.ValidationError as error:
        raise click.BadParameter(
            f"{text!r} is no actor: say user:ID, system:ID or job:ID", param_hint="--actor"
        ) from error


def resource_from(text: str) -> Resource:
    """``media_item:UUID`` as a resource. Raises BadParameter."""

    kind, _, resource_id = text.partition(":")
    try:
        return msgspec.convert({"type": kind, "id": resource_id}, Resource)
    except msgspec.ValidationError as error:
        raise click.BadParameter(
            f"{text!r} is no resource: say KIND:ID, such as media_item:0198…",
            param_hint="--resource",
        ) from error


def note_a_slip(*, event_type: str | None = None, category: str | None = None) -> None:
    """Says on the side that a type or a category is none of ours. It may be one of your own."""
    categories = (*get_args(Category), ANY_CATEGORY)
    for what, word, known in (
        ("type", event_type, EVENT_TYPES),
        ("category", category, categories),
    ):
        if word and word not in known:
            close = difflib.get_close_matches(word, known, n=1, cutoff=0.8)
            meant = f" (did you mean {close[0]}?)" if close else ""
            click.echo(f"note: {word} is no registered {what}{meant}", err=True)


json_lines = click.option(
    "--json", "as_json", is_flag=True, help="One JSON object a line, for programs."
)

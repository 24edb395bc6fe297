"""The base class of all event types."""

from typing import ClassVar, Literal

import msgspec

Severity = Literal["info", "warning", "error"]
Category = Literal["media", "downloads", "requests", "system"]
Icon = Literal[
    "add",
    "alert",
    "bell",
    "check",
    "cross",
    "download",
    "edit",
    "event",
    "eye",
    "file",
    "pause",
    "play",
    "plug",
    "refresh",
    "request",
    "search",
    "stall",
    "trash",
    "unplug",
    "unstable",
]
"""What a page draws next to an event. The severity has a color and a shape of its own."""


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A fact that happened. Each subclass is an event type.

    The fields of a subclass are the ``data`` of the CloudEvents envelope. A released field is never
    renamed.
    """

    category: ClassVar[Category]
    type: ClassVar[str]
    """``<resource>.<action>``, in the past tense."""
    version: ClassVar[int] = 1
    severity: ClassVar[Severity] = "info"
    icon: ClassVar[Icon] = "event"
    sentence: ClassVar[str] = ""
    """The event in a sentence for people: a template, see ``mediabus.schemas.sentences``.

    Without one, the sentence is the first one of the docstring.
    """
    sentence_by: ClassVar[str] = ""
    """The template if a user or a job did it. Without one, ``sentence`` is used."""

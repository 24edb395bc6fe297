"""Describe an event in a sentence for people, by the template of its type.

In a template, ``{field}`` is a field of the event. ``{actor}`` is who did it, ``{name}`` the title
of the media item or else of the download, ``{why}`` the reason or else the error message. Text in
``[…]`` is left out if one of its fields has no value. ``{field}`` of a boolean has a value, an
empty one, if it is true; ``{!field}`` if it is false.

The parts of a sentence are plain text: the page escapes them, a notification joins them.
"""

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

import msgspec

from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import EVENT_TYPES, Event, Severity
from mediabus.schemas.events.base import Icon
from mediabus.schemas.identity import Actor, Resource
from mediabus.schemas.plain_text import plain
from mediabus.schemas.wording import (
    VAGUE_REASONS,
    client_text,
    duration_text,
    reason_text,
    size_text,
)

Role = Literal["text", "title", "actor", "client", "value"]

MAX_VALUE: Final = 200
"""Characters of a value that a sentence shows."""


class Part(msgspec.Struct, frozen=True):
    """A piece of a sentence: printable text without line breaks, not escaped for any format.

    A ``title`` is worth emphasis. ``link`` is the resource that the piece names.
    """

    text: str
    role: Role = "text"
    link: Resource | None = None


class Sentence(msgspec.Struct, frozen=True):
    """An event in words, with its severity and the icon of its type."""

    parts: tuple[Part, ...]
    severity: Severity
    icon: Icon

    @property
    def text(self) -> str:
        """The sentence without marks, such as ``user 42 paused Dune``."""
        return "".join(part.text for part in self.parts)


def sentence_of(envelope: Envelope) -> Sentence:
    """Describe an event. Never fails, even for an incomplete event."""
    event_class = EVENT_TYPES.get(envelope.type)
    template = _template(event_class, envelope.actor)
    if event_class and template:
        parts = tuple(_filled(template, envelope))
    else:
        parts = tuple(_without_template(event_class, envelope))
    icon = event_class.icon if event_class else "event"
    return Sentence(parts, envelope.severity, icon)


def actor_text(actor: Actor) -> str:
    """Return the words for an actor: ``user 42``, ``anna``, ``job scan``, ``download_monitor``."""
    shown = _short(actor.id)
    if actor.type == "job" or (actor.type == "user" and actor.id.isdigit()):
        return f"{actor.type} {shown}"
    return shown


def _template(event_class: type[Event] | None, actor: Actor | None) -> str:
    if event_class is None:
        return ""
    is_named = actor is not None and actor.type != "system"
    return (is_named and event_class.sentence_by) or event_class.sentence


Piece = str | tuple["Piece", ...]
"""A literal, a field as ``{field}``, or an optional group of pieces."""

TOKEN: Final = re.compile(r"\[[^\]]*\]|\{[^}]*\}|[^\[{]+")


@functools.cache
def _pieces(template: str) -> tuple[Piece, ...]:
    found = TOKEN.findall(template)
    return tuple(_pieces(token[1:-1]) if token[0] == "[" else token for token in found)


def fields_of(template: str) -> set[str]:
    """Return the names in a template, with the ``!`` of a negated one."""
    return set(re.findall(r"\{([^}]*)\}", template))


def _filled(template: str, envelope: Envelope) -> Iterator[Part]:
    values = _values(envelope)
    for piece in _pieces(template):
        if isinstance(piece, str):
            yield _part(piece, values, envelope) or Part("?")
            continue
        group = [_part(str(inner), values, envelope) for inner in piece]
        if None not in group:
            yield from (part for part in group if part and part.text)


def _values(envelope: Envelope) -> dict[str, Any]:
    """Return the fields of an event, and those that a template derives from them."""
    values = {name: value for name, value in _fields(envelope).items() if value is not None}
    if name := values.get("media_title") or values.get("title"):
        values["name"] = name
    reason, message = values.get("reason"), values.get("error_message")
    if message and (reason is None or str(reason) in VAGUE_REASONS):
        values["why"] = message
    elif reason:
        values["why"] = reason_text(str(reason))
    if envelope.actor:
        values["actor"] = actor_text(envelope.actor)
    return values


def _fields(envelope: Envelope) -> dict[str, Any]:
    """Return the fields of an event; none if its data is JSON that cannot be decoded."""
    if envelope.event:
        return msgspec.structs.asdict(envelope.event)
    try:
        return envelope.fields()
    except msgspec.DecodeError:  # such as a number with thousands of digits
        return {}


def _part(piece: str, values: dict[str, Any], envelope: Envelope) -> Part | None:
    """Return a literal, or the field that a piece names; None if the field has no value."""
    if not piece.startswith("{"):
        return Part(piece)
    name = piece[1:-1]
    if name.startswith("!"):
        return Part("") if values.get(name[1:]) is False else None
    match values.get(name):
        case None | False:
            return None
        case True:
            return Part("")
        case value:
            return _shown(name, value, values, envelope)


def _shown(name: str, value: object, values: dict[str, Any], envelope: Envelope) -> Part:
    if name == "client":
        kind = values.get("kind")
        text = client_text(str(value), None if kind is None else str(kind))
        return Part(_short(text), "client", _resource("download_client", str(value)))
    text = _short(FORMATS.get(name, str)(value))
    if name in TITLES:
        return Part(text, "title", envelope.resource)
    return Part(text, "actor" if name == "actor" else "value")


def _resource(kind: str, resource_id: str) -> Resource | None:
    return Resource(kind, resource_id) if 1 <= len(resource_id) <= MAX_LINKED else None


MAX_LINKED: Final = 1024
"""Characters of the longest id of a resource."""

TITLES: Final = frozenset({"name", "title", "media_title", "job_name", "path", "target"})
"""The fields that name what the event is about."""


def _number(form: Callable[[float], str]) -> Callable[[Any], str]:
    """Return a format for numbers that shows anything else as it is."""

    def shown(value: object) -> str:
        if not isinstance(value, int | float):
            return str(value)
        try:
            return form(value)
        except (OverflowError, ValueError):  # no float holds it
            return str(value)

    return shown


def _names(changes: object) -> str:
    """Return the names of the changed fields, such as ``year, tmdb id``."""
    if not isinstance(changes, dict):
        return str(changes)
    return ", ".join(str(name).replace("_", " ") for name in changes)


def _count(value: object, noun: str) -> str:
    if not isinstance(value, list | tuple):
        return str(value)
    return f"{len(value)} {noun}" if len(value) == 1 else f"{len(value)} {noun}s"


FORMATS: Final[dict[str, Callable[[Any], str]]] = {
    "away_seconds": _number(duration_text),
    "changes": _names,
    "duration": _number(duration_text),
    "duration_ms": _number(lambda value: duration_text(value / 1000)),
    "event_ids": lambda value: _count(value, "event"),
    "path": lambda value: str(value).rstrip("/").rpartition("/")[2],
    "progress": _number(lambda value: f"{value:.0%}"),
    "retry_in_seconds": _number(duration_text),
    "size": _number(size_text),
}
"""How a sentence shows the values of a field."""


def _without_template(event_class: type[Event] | None, envelope: Envelope) -> Iterator[Part]:
    """Describe an event by the docstring or the name of its type, after its title."""
    title = _values(envelope).get("name")
    words = _docstring_words(event_class) if event_class else _type_words(envelope.type)
    if isinstance(title, str):
        yield Part(_short(title), "title", envelope.resource)
        yield Part(f": {words[:1].lower()}{words[1:]}")
    else:
        yield Part(words)
        if envelope.resource and event_class is None:
            yield Part(": ")
            yield Part(_short(envelope.resource.id), "title", envelope.resource)
    if envelope.actor and envelope.actor.type != "system":
        yield Part(" (")
        yield Part(actor_text(envelope.actor), "actor")
        yield Part(")")


@functools.cache
def _docstring_words(event_class: type[Event]) -> str:
    """Return the first clause of a docstring: what happened, without notes on the fields."""
    paragraph = " ".join((event_class.__doc__ or event_class.type).split())
    return re.split(r"[;.](?:\s|$)", paragraph, maxsplit=1)[0].replace("`", "")


def _type_words(name: str) -> str:
    words = re.sub(r"[._-]+", " ", _short(name)).strip()
    return words[:1].upper() + words[1:] or "Event"


def _short(text: str) -> str:
    shown = plain(text[: MAX_VALUE + 1])
    return shown if len(shown) <= MAX_VALUE else f"{shown[: MAX_VALUE - 1]}…"

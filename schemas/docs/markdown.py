"""docs/events.md: every event for people to read, derived from the types."""

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from schemas import codec
from schemas.events import EVENT_TYPES, Event
from schemas.examples import example
from schemas.export import sentence
from schemas.subjects import subject_of

HEAD: Final = """\
# Events

<!-- Made by `mediabus schema markdown > docs/events.md`; a test fails when it is stale. -->

Every event is a [CloudEvents 1.0](https://cloudevents.io) envelope in structured JSON
(`application/cloudevents+json`), one a message; the binary mode with `ce-*` headers is understood
too. The tables list the fields of `data`. A registered type must have those that are marked; it may
have more fields, and they are kept. An unregistered type may have any object for `data`.

The subject is `events.<category>.<resource>.<action>.<resource id>`: subscribe to
`events.downloads.>` for all about downloads, to `events.*.*.failed.>` for all failures, to
`events.*.*.*.<id>` for the life of one item. An event without a resource ends in `-`.

`actortype` (`user`, `system` or `job`) and `actorid` say who did it, both or neither;
`correlationid` is shared by all events of one cause, and `causationid` is the event or request that
led to this one. `severity` is `info`, `warning` or `error`.
"""


def markdown() -> str:
    """The whole document."""
    return "\n".join((HEAD, *_contents(), *_sections()))


def _contents() -> Iterator[str]:
    yield "| event | what happened |\n|---|---|"
    for name, event_class in EVENT_TYPES.items():
        yield f"| [`{name}`](#{_anchor(name)}) | {_markdown(sentence(event_class))} |"
    yield ""


def _anchor(name: str) -> str:
    """As GitHub and its kin make it of a heading."""
    return re.sub(r"[^a-z0-9_ -]", "", name.lower())


def _sections() -> Iterator[str]:
    category = None
    for event_class in EVENT_TYPES.values():
        if event_class.category != category:
            category = event_class.category
            yield f"## {category}\n"
        yield from _section(event_class)


def _section(event_class: type[Event]) -> Iterator[str]:
    made = example(event_class)
    yield f"### {event_class.type}\n"
    yield f"{_markdown(sentence(event_class))}\n"
    subject = subject_of(made).rpartition(".")[0]
    yield (
        f"Subject `{subject}.<id>`, severity `{event_class.severity}`, "
        f"version {event_class.version}.\n"
    )
    yield "| field | type | required |\n|---|---|---|"
    yield from _rows(event_class)
    yield ""
    notes = [_markdown(sentence(base)) for base in _documented_bases(event_class)]
    if notes:
        yield " ".join(notes) + "\n"
    shown = msgspec.json.format(codec.encode(made), indent=2).decode()
    yield f"```json\n{shown}\n```\n"


def _rows(event_class: type[Event]) -> Iterator[str]:
    (_,), definitions = msgspec.json.schema_components([event_class], ref_template="{name}")
    schema = definitions[event_class.__name__]
    required = set(schema.get("required", ()))
    ordered = sorted(schema["properties"], key=lambda name: name not in required)
    for name in ordered:
        mark = "yes" if name in required else ""
        yield f"| `{name}` | {_type(schema['properties'][name])} | {mark} |"


def _documented_bases(event_class: type[Event]) -> list[type]:
    """The classes whose words about their fields hold for this type too."""
    return [
        base
        for base in event_class.__mro__[1:]
        if base is not Event and issubclass(base, Event) and base.__dict__.get("__doc__")
    ]


def _type(schema: dict[str, Any]) -> str:
    match schema:
        case {"anyOf": [first, *_]}:
            return _type(first)
        case {"enum": values}:
            return ", ".join(f"`{value}`" for value in values)
        case {"type": "object", "additionalProperties": {"type": "array"}}:
            return "object of field: [old, new]"
        case {"format": "uuid"}:
            return "UUID"
        case {"type": "number", "minimum": low, "maximum": high}:
            return f"number, {low} to {high}"
    return str(schema.get("type", "any"))


def _markdown(text: str) -> str:
    """A docstring's code marks as Markdown has them."""
    return text.replace("``", "`")

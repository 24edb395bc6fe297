"""Derive docs/events.md, the catalogue of events, from the types."""

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from mediabus.schemas import codec
from mediabus.schemas.docs.contracts import sentence
from mediabus.schemas.docs.examples import example
from mediabus.schemas.events import EVENT_TYPES, Event
from mediabus.schemas.subjects import subject_of

HEAD: Final = """\
# Events

<!-- Made by `mediabus schema markdown > docs/events.md`; a test fails when it is stale. -->

Every event is a [CloudEvents 1.0](https://cloudevents.io) envelope in structured JSON
(`application/cloudevents+json`), one per message. mediabus also accepts the binary mode with `ce-*`
headers. The tables list the fields of `data`. An event of a registered type must have the required
fields; it may have more fields, and they are kept. Its category is the one under which it is listed
here. An unregistered type may have any data.

The subject is `events.<category>.<resource>.<action>.<resource id>`. Subscribe to
`events.downloads.>` for all download events, to `events.*.*.failed.>` for all failures, and to
`events.*.*.*.<id>` for all events of one item. The subject of an event without a resource ends in
`-`.

`actortype` (`user`, `system` or `job`) and `actorid` name the actor; an event has both or neither.
All events of one cause share `correlationid`; `causationid` is the event or request that led to
this one. `severity` is `info`, `warning` or `error`. `actorverified` is `true` if a key proves the
actor: only mediabus sets it, and ignores it in events of other publishers. `traceparent` and
`tracestate` are those of the request that caused the event.

mediabus keeps every valid CloudEvent unchanged. [docs/cloudevents.md](cloudevents.md) explains how
and what it rejects.
"""


def markdown() -> str:
    """Return the whole document."""
    return "\n".join((HEAD, *_contents(), *_sections()))


def _contents() -> Iterator[str]:
    yield "| event | what happened |\n|---|---|"
    for name, event_class in EVENT_TYPES.items():
        yield f"| [`{name}`](#{_anchor(name)}) | {_markdown(sentence(event_class))} |"
    yield ""


def _anchor(name: str) -> str:
    """Return the anchor that GitHub creates for a heading."""
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
    """Return the base classes whose docstrings apply to this type too."""
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
    """Convert the code marks of a docstring to Markdown."""
    return text.replace("``", "`")

"""What may be said, as JSON Schema and as AsyncAPI, derived from the types."""

import re
from typing import Any, Final

import msgspec

from schemas.codec import CONTENT_TYPE, CloudEvent
from schemas.commands import (
    ACTOR_ID_HEADER,
    ACTOR_TYPE_HEADER,
    CORRELATION_HEADER,
    ErrorReply,
    Request,
)
from schemas.events import EVENT_TYPES, Event
from schemas.operations import OPERATIONS

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

Document = dict[str, Any]


class Envelope(CloudEvent, kw_only=True, omit_defaults=True):
    """CloudEvents 1.0 as structured JSON. What is not named here is carried along.

    An unregistered ``type`` may have any ``data``; that of a registered one fits its schema, and
    may have more fields. ``subject`` is what the event is about, ``<kind>/<id>``; ``actortype`` and
    ``actorid`` say who did it, both or neither.
    """

    # The codec keeps it as bytes.
    data: dict[str, Any] = msgspec.field(default_factory=dict)  # type: ignore[assignment]


def json_schema() -> Document:
    """One JSON Schema of all events; the data of each type is in ``$defs`` under its class name."""
    classes = list(EVENT_TYPES.values())
    (envelope, *_), definitions = msgspec.json.schema_components(
        [Envelope, *classes], ref_template="#/$defs/{name}"
    )
    return {
        "$schema": DIALECT,
        "$id": "mediabus:events",
        "title": "The events of mediabus",
        "allOf": [envelope, *(_data_rule(event_class) for event_class in classes)],
        "$defs": {name: definitions[name] for name in sorted(definitions)},
    }


def _data_rule(event_class: type[Event]) -> Document:
    """That the data of a registered type fits it."""
    return {
        "if": {"properties": {"type": {"const": event_class.type}}, "required": ["type"]},
        "then": {
            "properties": {"data": {"$ref": f"#/$defs/{event_class.__name__}"}},
            "required": ["data"],
        },
    }


def async_api() -> Document:
    """AsyncAPI 3.0: a channel for each event type and each operation, as mediabus sees them."""
    api = _Api()
    for event_class in EVENT_TYPES.values():
        api.add_event(event_class)
    for subject, (request, reply) in OPERATIONS.items():
        api.add_operation(subject, request, reply)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "mediabus",
            "version": "1",
            "description": "What happens to media and downloads, as events on NATS, and the "
            "operations that can be asked for over NATS request and reply.",
        },
        "defaultContentType": "application/json",
        "channels": api.channels,
        "operations": api.operations,
        "components": {"messages": api.messages, "schemas": _draft_07(api.schemas)},
    }


def _draft_07(schema: Any) -> Any:  # noqa: ANN401 - any part of a JSON document
    """In the dialect of AsyncAPI, where a tuple's types are ``items`` themselves."""
    match schema:
        case {"prefixItems": items, **rest}:
            return {**_draft_07(rest), "items": _draft_07(items), "additionalItems": False}
        case dict():
            return {name: _draft_07(value) for name, value in schema.items()}
        case list():
            return [_draft_07(value) for value in schema]
    return schema


class _Api:
    """The parts of the AsyncAPI document, growing together."""

    def __init__(self) -> None:
        said: list[Any] = [Envelope, ErrorReply, *EVENT_TYPES.values()]
        for request, reply in OPERATIONS.values():
            said += [request, reply]
        references, self.schemas = msgspec.json.schema_components(
            said, ref_template="#/components/schemas/{name}"
        )
        self._refer = dict(zip(said, references, strict=True))
        self.channels: Document = {}
        self.operations: Document = {}
        self.messages: Document = {
            "error": {"headers": ERROR_HEADERS, "payload": self._refer[ErrorReply]}
        }

    def add_event(self, event_class: type[Event]) -> None:
        name = event_class.type
        data = {"type": {"const": name}, "data": self._refer[event_class]}
        self.messages[name] = {
            "contentType": CONTENT_TYPE,
            "summary": sentence(event_class),
            "payload": {"allOf": [self._refer[Envelope], {"properties": data}]},
        }
        self.channels[name] = {
            "address": f"events.{event_class.category}.{name}.{{resource_id}}",
            "parameters": {"resource_id": {"description": "The id of what it is about, or -."}},
            "messages": _messages(name),
        }
        self.operations[f"publish.{name}"] = {"action": "send", **_on(name, [name])}

    def add_operation(self, subject: str, request: type[Request], reply: Any) -> None:  # noqa: ANN401
        asked, answered = f"{subject}.request", f"{subject}.reply"
        self.messages[asked] = {
            "summary": sentence(request),
            "headers": ACTOR_HEADERS,
            "payload": self._refer[request],
        }
        self.messages[answered] = {"payload": self._refer[reply]}
        self.channels[subject] = {"address": subject, "messages": _messages(asked)}
        # No address: it is an inbox of the caller's.
        self.channels[answered] = {"address": None, "messages": _messages(answered, "error")}
        self.operations[f"answer.{subject}"] = {
            "action": "receive",
            **_on(subject, [asked]),
            "reply": _on(answered, [answered, "error"]),
        }


def _messages(*names: str) -> Document:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in names}


def _on(channel: str, messages: list[str]) -> Document:
    references = [{"$ref": f"#/channels/{channel}/messages/{message}"} for message in messages]
    return {"channel": {"$ref": f"#/channels/{channel}"}, "messages": references}


ACTOR_HEADERS: Final[Document] = {
    "type": "object",
    "properties": {
        ACTOR_TYPE_HEADER: {"enum": ["user", "system", "job"]},
        ACTOR_ID_HEADER: {"type": "string", "minLength": 1, "maxLength": 255},
        CORRELATION_HEADER: {"type": "string", "minLength": 1, "maxLength": 1024},
    },
    "dependentRequired": {
        ACTOR_TYPE_HEADER: [ACTOR_ID_HEADER],
        ACTOR_ID_HEADER: [ACTOR_TYPE_HEADER],
    },
}
ERROR_HEADERS: Final[Document] = {
    "type": "object",
    "properties": {
        "Nats-Service-Error-Code": {"type": "string"},
        "Nats-Service-Error": {"type": "string"},
    },
    "required": ["Nats-Service-Error-Code", "Nats-Service-Error"],
}


def sentence(documented: object) -> str:
    """The first paragraph of a docstring, on one line."""
    return re.sub(r"\s+", " ", (documented.__doc__ or "").partition("\n\n")[0]).strip()

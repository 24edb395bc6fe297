"""Derive JSON Schema and AsyncAPI documents from the types of events and operations."""

import re
from typing import Any, Final

import msgspec

from mediabus.schemas.codec import CONTENT_TYPE, CloudEvent
from mediabus.schemas.events import EVENT_TYPES, Event
from mediabus.schemas.operations.registry import OPERATIONS
from mediabus.schemas.operations.requests import (
    ACTOR_ID_HEADER,
    ACTOR_TYPE_HEADER,
    CORRELATION_HEADER,
    IDEMPOTENCY_HEADER,
    MESSAGE_ID_HEADER,
    ErrorReply,
    Request,
)

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

Document = dict[str, Any]


class Envelope(CloudEvent, kw_only=True, omit_defaults=True):
    """CloudEvents 1.0 as structured JSON. Other members are extension attributes and are kept.

    An unregistered ``type`` may have any ``data``, or ``data_base64``, or neither. The ``data`` of
    a registered type fits its schema and may have more fields. ``subject`` is what the event is
    about, ``<kind>/<id>`` if mediabus publishes it. ``actortype`` and ``actorid`` name the actor,
    both or neither. ``actorverified`` is true if a key proves the actor; only mediabus sets it.
    """

    # The codec keeps ``data`` as bytes.
    data: Any = msgspec.UNSET  # any JSON


def json_schema() -> Document:
    """Return one JSON Schema of all events; ``$defs`` has the data of each type by class name."""
    classes = list(EVENT_TYPES.values())
    (envelope, *_), definitions = msgspec.json.schema_components(
        [Envelope, *classes], ref_template="#/$defs/{name}"
    )
    return {
        "$schema": DIALECT,
        "$id": "mediabus:events",
        "title": "The events of mediabus",
        "allOf": [envelope, ONE_DATA, *(_data_rule(event_class) for event_class in classes)],
        "$defs": {name: definitions[name] for name in sorted(definitions)},
    }


ONE_DATA: Final[Document] = {"not": {"required": ["data", "data_base64"]}}


def _data_rule(event_class: type[Event]) -> Document:
    """Return the rule that the data of a registered type fits its schema."""
    return {
        "if": {"properties": {"type": {"const": event_class.type}}, "required": ["type"]},
        "then": {
            "properties": {
                "data": {"$ref": f"#/$defs/{event_class.__name__}"},
                "category": {"enum": [event_class.category, None]},
            },
            "anyOf": [{"required": ["data"]}, {"required": ["data_base64"]}],
        },
    }


def async_api() -> Document:
    """Return AsyncAPI 3.1, with a channel for each event type and each operation."""
    api = _Api()
    for event_class in EVENT_TYPES.values():
        api.add_event(event_class)
    for subject, (request, reply) in OPERATIONS.items():
        api.add_operation(subject, request, reply)
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "mediabus",
            "version": "1",
            "description": "Events about media and downloads on NATS, and the operations that "
            "mediabus serves over NATS request and reply.",
        },
        "defaultContentType": "application/json",
        "servers": SERVERS,
        "channels": api.channels,
        "operations": api.operations,
        "components": {
            "messages": api.messages,
            "schemas": _draft_07(api.schemas),
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


def _draft_07(schema: Any) -> Any:  # noqa: ANN401 - any part of a JSON document
    """Convert a schema to the dialect of AsyncAPI, which has ``items`` for ``prefixItems``."""
    match schema:
        case {"prefixItems": items, **rest}:
            return {**_draft_07(rest), "items": _draft_07(items), "additionalItems": False}
        case dict():
            return {name: _draft_07(value) for name, value in schema.items()}
        case list():
            return [_draft_07(value) for value in schema]
    return schema


class _Api:
    """A builder of the AsyncAPI document."""

    def __init__(self) -> None:
        types: list[Any] = [Envelope, ErrorReply, *EVENT_TYPES.values()]
        for request, reply in OPERATIONS.values():
            types += [request, reply]
        references, self.schemas = msgspec.json.schema_components(
            types, ref_template="#/components/schemas/{name}"
        )
        self._refer = dict(zip(types, references, strict=True))
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
            "parameters": {"resource_id": {"description": "The id of the resource, or -."}},
            "messages": _messages(name),
            "tags": [{"name": event_class.category}],
        }
        self.operations[f"publish.{name}"] = {
            "action": "send",
            "tags": [{"name": event_class.category}, {"name": "events"}],
            **_on(name, [name]),
        }

    def add_operation(self, subject: str, request: type[Request], reply: Any) -> None:  # noqa: ANN401
        request_name, reply_name = f"{subject}.request", f"{subject}.reply"
        self.messages[request_name] = {
            "summary": sentence(request),
            "headers": ACTOR_HEADERS,
            "payload": self._refer[request],
        }
        self.messages[reply_name] = {"payload": self._refer[reply]}
        self.channels[subject] = {"address": subject, "messages": _messages(request_name)}
        # No address: replies go to an inbox of the caller.
        self.channels[reply_name] = {"address": None, "messages": _messages(reply_name, "error")}
        self.operations[f"answer.{subject}"] = {
            "action": "receive",
            "tags": [{"name": subject.partition(".")[0]}, {"name": "operations"}],
            "bindings": {"nats": {"queue": MICRO_QUEUE, "bindingVersion": "0.1.0"}},
            **_on(subject, [request_name]),
            "reply": _on(reply_name, [reply_name, "error"]),
        }


def _messages(*names: str) -> Document:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in names}


def _on(channel: str, messages: list[str]) -> Document:
    references = [{"$ref": f"#/channels/{channel}/messages/{message}"} for message in messages]
    return {"channel": {"$ref": f"#/channels/{channel}"}, "messages": references}


MICRO_QUEUE: Final = "q"
"""The queue group of NATS micro services (ADR-32): one process of the group answers."""

SERVERS: Final[Document] = {
    "home": {
        "host": "127.0.0.1:4222",
        "protocol": "nats",
        "description": "The server of `mediabus up`. connection.json in its data directory "
        "has the URL with the password.",
        "security": [{"$ref": "#/components/securitySchemes/password"}],
    },
    "secured": {
        "host": "{host}:4222",
        "protocol": "nats",
        "description": "A server with the configuration of `mediabus secure`: TLS, and a key for "
        "each program.",
        "variables": {"host": {"description": "The name in the server's certificate."}},
        "security": [{"$ref": "#/components/securitySchemes/nkey"}],
    },
}
SECURITY_SCHEMES: Final[Document] = {
    "password": {"type": "userPassword", "description": "User and password of the NATS server."},
    "nkey": {"type": "asymmetricEncryption", "description": "An NKey of `mediabus secure`."},
}
ACTOR_HEADERS: Final[Document] = {
    "type": "object",
    "properties": {
        ACTOR_TYPE_HEADER: {"enum": ["user", "system", "job"]},
        ACTOR_ID_HEADER: {"type": "string", "minLength": 1, "maxLength": 255},
        CORRELATION_HEADER: {"type": "string", "minLength": 1, "maxLength": 1024},
        IDEMPOTENCY_HEADER: {"type": "string", "minLength": 1, "maxLength": 255},
        MESSAGE_ID_HEADER: {"type": "string", "minLength": 1, "maxLength": 255},
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
    """Return the first paragraph of a docstring, on one line."""
    return re.sub(r"\s+", " ", (documented.__doc__ or "").partition("\n\n")[0]).strip()

"""An event as a message of the event entity, for automations to match on. No I/O."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from mediabus.consumers.home_assistant.discovery import OTHER
from mediabus.consumers.home_assistant.states import short
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import EVENT_TYPES
from mediabus.schemas.sentences import sentence_of

MAX_FIELDS: Final = 20
MAX_TEXT: Final = 200
"""Characters of a text in the data of an event."""

IMPORTED: Final = "imported"
"""The extension attribute of events from the history of an application."""


def is_live(envelope: Envelope) -> bool:
    """Return whether an event happened just now, and was not imported from an old history."""
    return envelope.extensions.get(IMPORTED) is not True


def text_of(envelope: Envelope) -> str:
    """Return the event in words, as the state of a sensor."""
    return short(sentence_of(envelope).text)


def attributes(envelope: Envelope) -> dict[str, Any]:
    """Return what automations can use of an event."""
    return {
        "id": str(envelope.id),
        "type": short(envelope.type),
        "time": envelope.time.isoformat(),
        "severity": envelope.severity,
        "category": short(envelope.category),
        "source": short(envelope.source),
        "actor": short(str(envelope.actor)) if envelope.actor else None,
        "resource_type": short(envelope.resource.type) if envelope.resource else None,
        "resource_id": short(envelope.resource.id) if envelope.resource else None,
        "text": text_of(envelope),
        "data": dict(_data(envelope)),
    }


def message(envelope: Envelope) -> bytes:
    """Return the payload of the event entity, which needs an ``event_type``."""
    event_type = envelope.type if envelope.type in EVENT_TYPES else OTHER
    return msgspec.json.encode({"event_type": event_type, **attributes(envelope)})


def _data(envelope: Envelope) -> Iterator[tuple[str, str | int | float | bool]]:
    """Yield the simple values of an event's data; Home Assistant limits attributes to 16 KiB."""
    try:
        fields = msgspec.json.decode(envelope.data or b"{}")
    except (msgspec.DecodeError, RecursionError):
        return
    if not isinstance(fields, dict):
        return
    simple = [(key, value) for key, value in fields.items() if isinstance(value, str | int | float)]
    for key, value in simple[:MAX_FIELDS]:
        yield short(key, 64), short(value, MAX_TEXT) if isinstance(value, str) else value

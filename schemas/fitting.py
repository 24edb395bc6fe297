"""Make events with external texts fit the limits of NATS and PostgreSQL."""

from typing import Final, TypeVar

import msgspec

from mediabus.schemas.events import Event

LONGEST_TEXT: Final = 4096
"""Characters of one text. Each takes up to 6 bytes as JSON, and an event has up to ten texts."""

EventT = TypeVar("EventT", bound=Event)


def fitted(event: EventT) -> EventT:
    """Shorten the texts of an event, and replace characters that PostgreSQL cannot store.

    A shortened text ends with its original length.
    """
    fitting = {
        name: text
        for name in event.__struct_fields__
        if isinstance(value := getattr(event, name), str) and (text := fitted_text(value)) != value
    }
    return msgspec.structs.replace(event, **fitting) if fitting else event


def fitted_text(text: str) -> str:
    """Shorten and clean one text: see ``fitted``."""
    if "\0" in text or not text.isascii():
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if len(text) <= LONGEST_TEXT:
        return text
    mark = f"… [shortened from {len(text)} characters]"
    return text[: LONGEST_TEXT - len(mark)] + mark

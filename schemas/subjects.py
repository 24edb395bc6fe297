"""NATS names: the subject of each event, the filters over them, the streams and the bucket."""

import hashlib
import re
from typing import Final
from urllib.parse import quote, unquote

from schemas.envelope import Envelope
from schemas.status import ClientName, ItemId

EVENTS_STREAM: Final = "EVENTS"
EVENTS_SUBJECTS: Final = "events.>"
DEAD_LETTERS_STREAM: Final = "DEAD_LETTERS"
DEAD_LETTERS_SUBJECTS: Final = "dead_letters.>"
REPLAY_STREAM: Final = "REPLAY"
REPLAY_SUBJECTS: Final = "replay.>"
DOWNLOAD_STATUS_BUCKET: Final = "download_status"
DOWNLOAD_STATUS_STREAM: Final = f"KV_{DOWNLOAD_STATUS_BUCKET}"

NO_RESOURCE: Final = "-"
MAX_TOKEN: Final = 255
KEPT: Final = 200


def token(text: str) -> str:
    """Any text as one subject token: what NATS gives a meaning to is percent-encoded. A long one
    ends in a digest instead: a server hangs up on whoever names a subject of 4 KiB."""
    encoded = quote(text, safe="").replace(".", "%2E")
    if len(encoded) > MAX_TOKEN:
        return f"{encoded[:KEPT]}~{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return encoded.replace("-", "%2D") if encoded == NO_RESOURCE else encoded


def subject_of(envelope: Envelope) -> str:
    """``events.<category>.<resource>.<action>.<resource id>``, always five tokens."""
    resource, _, action = envelope.type.partition(".")
    last = token(envelope.resource.id) if envelope.resource else NO_RESOURCE
    return ".".join(
        ("events", token(envelope.category), _or_none(resource), _or_none(action), last)
    )


def _or_none(text: str) -> str:
    return token(text) if text else NO_RESOURCE


def type_of(subject: str) -> str | None:
    """The event type that a subject names; None where it is no subject of ours. A very long one
    comes back as it was shortened."""
    tokens = subject.split(".")[-5:]
    if len(tokens) < 5 or tokens[0] != "events":
        return None
    return ".".join(unquote(part) for part in tokens[2:4] if part != NO_RESOURCE) or None


def replayed(consumer: str, subject: str) -> str:
    """The subject, or filter, of what is fed to one consumer once more."""
    return f"replay.{consumer}.{subject}"


def filter_for(
    *,
    category: str | None = None,
    event_type: str | None = None,
    resource_id: str | None = None,
) -> str:
    """The narrowest subject filter that lets all such events through."""
    resource, _, action = (event_type or "").partition(".")
    tokens = [
        token(category) if category else "*",
        token(resource) if resource else "*",
        token(action) if action else "*",
        token(resource_id) if resource_id else "*",
    ]
    while tokens and tokens[-1] == "*":
        tokens.pop()
    return ".".join(["events", *tokens]) + ("" if len(tokens) == 4 else ".>")


def status_key(client: ClientName, item: ItemId) -> str:
    """The key of a download in the bucket ``download_status``: two tokens."""
    return f"{client}.{_KEY_UNSAFE.sub(_escaped, item)}"


def item_of_key(key: str) -> tuple[ClientName, ItemId] | None:
    """The download that a key names, or None for the key of a client."""
    client, separator, item = key.partition(".")
    if not separator:
        return None
    return ClientName(client), ItemId(unquote(item.replace("=", "%")))


# What a key of a bucket may hold, less the "." between tokens and the "=" that escapes here.
_KEY_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]")


def _escaped(match: re.Match[str]) -> str:
    return "".join(f"={byte:02X}" for byte in match[0].encode())

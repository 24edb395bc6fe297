"""All NATS names: streams, the bucket, consumers, and the subjects of every message."""

import functools
import hashlib
import re
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

import msgspec

from mediabus.schemas.envelope import Envelope
from mediabus.schemas.identity import ProvenActor
from mediabus.schemas.status import ClientName, ItemId

EVENTS_STREAM: Final = "EVENTS"
EVENTS_SUBJECTS: Final = "events.>"
DEAD_LETTERS_STREAM: Final = "DEAD_LETTERS"
DEAD_LETTERS_SUBJECTS: Final = "dead_letters.>"
REPLAY_STREAM: Final = "REPLAY"
REPLAY_SUBJECTS: Final = "replay.>"
DOWNLOAD_STATUS_BUCKET: Final = "download_status"
DOWNLOAD_STATUS_STREAM: Final = f"KV_{DOWNLOAD_STATUS_BUCKET}"
STATUS_SUBJECT: Final = f"$KV.{DOWNLOAD_STATUS_BUCKET}."
"""The prefix of the subjects of the bucket; a key follows."""

NOTIFIER_BUCKET: Final = "notifier"
NOTIFIER_STREAM: Final = f"KV_{NOTIFIER_BUCKET}"
NOTIFIER_SUBJECT: Final = f"$KV.{NOTIFIER_BUCKET}."
"""The prefix of the subjects of the notifier's bucket; the name of a target follows."""

NOTIFIER: Final = "notify"
"""The owner of the consumers of the notifier, in the requests of its key."""

NOTIFIER_CONSUMERS: Final = "notify-"
"""The prefix of the durable consumers of the notifier; the name of a target follows."""

PERSISTER: Final = "persister"
"""The durable consumer of the persister."""

RECORDED_SUBJECT: Final = "mediabus.outbox.recorded"
"""Core NATS subject that wakes the relay. A lost message only delays it until its next poll."""

CONSUMERS_REQUESTED: Final = "mediabus.consumers.>"
LETTERS_REQUESTED: Final = "mediabus.letters.>"
"""The requests of ``consumer_requested`` and ``letter_requested``."""

LOOK_SUBJECT: Final = "mediabus.monitor.look"
"""Core NATS subject that makes the monitor poll a client now; the client's name follows."""

WAKE_SUBJECT: Final = "mediabus.apps.wake"
"""Core NATS subject that makes the reader of an application read now; its name follows. The body is
the kind of the webhook that caused it."""

WAKE_APPS: Final = "mediabus.apps.read"
"""Core NATS subject that makes the readers of all applications read now."""

PROVEN: Final = "in"
"""The first token of subjects that prove the actor of a message."""

NO_RESOURCE: Final = "-"
MAX_TOKEN: Final = 255
KEPT: Final = 200


def token(text: str) -> str:
    """Encode any text as one subject token, with percent-encoding.

    A long text is cut and ends in a digest: a server closes the connection of a client that uses a
    subject of 4 KiB.
    """
    encoded = quote(text, safe="").replace(".", "%2E")
    if len(encoded) > MAX_TOKEN:
        return f"{encoded[:KEPT]}~{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return encoded.replace("-", "%2D") if encoded == NO_RESOURCE else encoded


def subject_of(envelope: Envelope) -> str:
    """Return ``events.<category>.<resource>.<action>.<resource id>``: always five tokens."""
    last = token(envelope.resource.id) if envelope.resource else NO_RESOURCE
    return f"{_first_tokens(envelope.category, envelope.type)}.{last}"


@functools.lru_cache(maxsize=1024)
def _first_tokens(category: str, event_type: str) -> str:
    """Return the tokens that all events of a type share. Most programs publish a few types."""
    resource, _, action = event_type.partition(".")
    return ".".join(("events", token(category), _or_none(resource), _or_none(action)))


def _or_none(text: str) -> str:
    return token(text) if text else NO_RESOURCE


def type_of(subject: str) -> str | None:
    """Return the event type in a subject; None if it is not the subject of an event.

    A very long type is returned as ``token`` cut it.
    """
    tokens = subject.split(".")[-5:]
    if len(tokens) < 5 or tokens[0] != "events":
        return None
    return ".".join(unquote(part) for part in tokens[2:4] if part != NO_RESOURCE) or None


def is_event_filter(subjects: str) -> bool:
    """Return whether this is a valid NATS filter that can match the subject of an event."""
    first, *others = subjects.split(".")
    tokens = [first, *others]
    is_valid = all(tokens) and ">" not in tokens[:-1] and not re.search(r"\s", subjects)
    return is_valid and first in {"events", ">", "*"} and (bool(others) or first == ">")


def replayed(consumer: str, subject: str) -> str:
    """Return the subject, or filter, of events that are replayed to one consumer."""
    return f"replay.{consumer}.{subject}"


def asked_as(kind: str, actor_id: str, subject: str) -> str:
    """Return the subject to which NATS maps what the key of an actor publishes to ``subject``.

    The account of the key does the mapping, so a key cannot claim another actor.
    """
    return f"{PROVEN}.{kind}.{token(actor_id)}.{subject}"


def asked_by_anybody(subject: str) -> str:
    """Return the filter for what all proven actors publish to ``subject``."""
    return f"{PROVEN}.*.*.{subject}"


class Proven(NamedTuple):
    """An actor that a subject proves, and the subject that they published to."""

    actor: ProvenActor
    subject: str


def proven_by(subject: str) -> Proven | None:
    """Return the actor in a subject of ``asked_as``; None for any other subject."""
    tokens = subject.split(".", 3)
    if len(tokens) < 4 or tokens[0] != PROVEN:
        return None
    try:
        actor = msgspec.convert({"type": tokens[1], "id": unquote(tokens[2])}, ProvenActor)
    except msgspec.ValidationError:
        return None
    return Proven(actor, tokens[3])


def consumer_requested(owner: str, stream: str, name: str) -> str:
    """Return the subject of requests to create a consumer for the account of a key.

    The service creates it, because the creator of a consumer chooses the delivery subject, and the
    server would deliver there with its own rights.
    """
    return f"mediabus.consumers.{owner}.{stream}.{name}"


def dead_letter_subject(consumer: str, kind: str) -> str:
    """Return the subject of a consumer's dead letters of one kind."""
    return f"dead_letters.{consumer}.{kind}"


def letter_requested(consumer: str, kind: str) -> str:
    """Return the subject of requests to store a dead letter of a consumer."""
    return f"mediabus.letters.{consumer}.{kind}"


def filter_for(
    *,
    category: str | None = None,
    event_type: str | None = None,
    resource_id: str | None = None,
) -> str:
    """Return the narrowest subject filter that matches all such events."""
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
    """Return the key of a download in the bucket ``download_status``: two tokens."""
    return f"{client}.{_KEY_UNSAFE.sub(_escaped, item)}"


def item_of_key(key: str) -> tuple[ClientName, ItemId] | None:
    """Return the download of a key; None for the key of a client."""
    client, separator, item = key.partition(".")
    if not separator:
        return None
    return ClientName(client), ItemId(unquote(item.replace("=", "%")))


# Any character but those of a key, less the "." between tokens and the "=" that escapes here.
_KEY_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]")


def _escaped(match: re.Match[str]) -> str:
    return "".join(f"={byte:02X}" for byte in match[0].encode())

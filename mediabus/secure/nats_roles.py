"""The rights of keys in NATS: a role for each key, with the least rights that it needs.

Each key has its own account. The account imports only the requests in ``asks``, from the account
that answers them. The server sends each reply within the account of the responder, so neither the
subject of a request nor its reply subject reaches anything else.
"""

from typing import Final

import msgspec

from mediabus.runtime.nats.account import API, IMPORTED_API, KEY_ACCOUNTS, STREAMS_ACCOUNT
from mediabus.schemas.identity import Actor
from mediabus.schemas.subjects import (
    CONSUMERS_REQUESTED,
    DEAD_LETTERS_STREAM,
    DOWNLOAD_STATUS_STREAM,
    EVENTS_STREAM,
    EVENTS_SUBJECTS,
    LETTERS_REQUESTED,
    LOOK_SUBJECT,
    NOTIFIER,
    NOTIFIER_STREAM,
    NOTIFIER_SUBJECT,
    PERSISTER,
    PROVEN,
    RECORDED_SUBJECT,
    REPLAY_STREAM,
    REPLAY_SUBJECTS,
    STATUS_SUBJECT,
    WAKE_APPS,
    WAKE_SUBJECT,
    asked_as,
    consumer_requested,
    dead_letter_subject,
    letter_requested,
)

EVENTS: Final = EVENTS_STREAM
DEAD: Final = DEAD_LETTERS_STREAM
BUCKET: Final = DOWNLOAD_STATUS_STREAM
STATUSES: Final = f"{STATUS_SUBJECT}>"
LOOKS_REQUESTED: Final = f"{LOOK_SUBJECT}.*"
STREAMS: Final = (EVENTS, DEAD, REPLAY_STREAM, BUCKET)
PERSISTER_ACCOUNT: Final = f"{KEY_ACCOUNTS}{PERSISTER}"


class Asked(msgspec.Struct, frozen=True):
    """Requests that an account may send to ``subject``.

    ``account`` receives them on ``exported``. A ``streamed`` request has more than one reply.
    """

    subject: str
    exported: str
    account: str = STREAMS_ACCOUNT
    streamed: bool = False


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """The rights of a key.

    It may send the requests in ``asks``, subscribe to the subjects of the streams' account in
    ``hears`` and to its own inbox, and serve the subjects in ``serves`` to other accounts. What is
    in ``denied`` it may not publish to, although a subject in ``asks`` covers it.
    """

    what: str
    asks: tuple[Asked, ...]
    hears: tuple[str, ...] = ()
    serves: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()


class Limits(msgspec.Struct, frozen=True):
    """What one key may use of the server. Its account has no JetStream storage or streams."""

    connections: int
    subscriptions: int
    payload: int


PROCESS: Final = Limits(connections=-1, subscriptions=-1, payload=-1)
ACTS: Final = Limits(connections=32, subscriptions=2_000, payload=8_000_000)
LOOKS: Final = Limits(connections=32, subscriptions=2_000, payload=65_536)


def _plain(*subjects: str) -> tuple[Asked, ...]:
    return tuple(Asked(subject, subject) for subject in subjects)


def _api(*calls: str, streamed: bool = False) -> tuple[Asked, ...]:
    """Calls of the JetStream API, which the accounts of keys import under a prefix."""
    return tuple(
        Asked(f"{IMPORTED_API}.{call}", f"{API}.{call}", streamed=streamed) for call in calls
    )


def _reads(stream: str) -> tuple[Asked, ...]:
    """Read a stream by direct gets, which change nothing and do not affect consumers."""
    return (
        *_api(f"DIRECT.GET.{stream}", f"DIRECT.GET.{stream}.>", streamed=True),
        *_api(f"STREAM.MSG.GET.{stream}"),
    )


def _consumes(owner: str, stream: str, name: str) -> tuple[Asked, ...]:
    """Use a pull consumer. The service creates it and checks its configuration."""
    created = f"{IMPORTED_API}.CONSUMER.DURABLE.CREATE.{stream}.{name}"
    return (
        Asked(created, consumer_requested(owner, stream, name)),
        *_api(f"CONSUMER.INFO.{stream}.{name}"),
        *_api(f"CONSUMER.MSG.NEXT.{stream}.{name}", streamed=True),
        *_plain(f"$JS.ACK.{stream}.{name}.>", f"$JS.ACK.*.*.{stream}.{name}.>"),
    )


INFO: Final = _api(*(f"STREAM.INFO.{stream}" for stream in STREAMS))
FOUND: Final = (
    Asked("$SRV.>", "$SRV.>", streamed=True),
    Asked("$SRV.>", "$SRV.>", PERSISTER_ACCOUNT, streamed=True),
)
HISTORY: Final = (Asked("history.*", "history.*", PERSISTER_ACCOUNT),)
LOOKED_UP: Final = _plain("media.get", "media.list", "downloads.get", "downloads.list", "apps.list")
LOOKS_AT: Final = (
    *HISTORY,
    *FOUND,
    *INFO,
    *_reads(EVENTS),
    *_reads(DEAD),
    *_reads(BUCKET),
    *_api(f"CONSUMER.INFO.{EVENTS}.{PERSISTER}"),
    *_api(f"CONSUMER.LIST.{EVENTS}", f"CONSUMER.LIST.{BUCKET}"),
)

MONITOR: Final = Role(
    what="`mediabus monitor`",
    asks=(
        *_plain(EVENTS_SUBJECTS, RECORDED_SUBJECT, STATUSES, WAKE_APPS),
        *INFO,
        *_reads(BUCKET),
        *_consumes("monitor", BUCKET, "*"),
        *_api(f"CONSUMER.LIST.{BUCKET}", f"STREAM.PURGE.{BUCKET}"),
    ),
    hears=(LOOKS_REQUESTED, STATUSES),
)
PERSIST: Final = Role(
    what="`mediabus persist`",
    asks=(
        *_plain(dead_letter_subject(PERSISTER, "*")),
        *INFO,
        *_reads(EVENTS),
        *_consumes(PERSISTER, EVENTS, PERSISTER),
    ),
    serves=("history.*", "$SRV.>"),
)

WEB: Final = Role(
    what="`mediabus web`, which acts in the name of its users",
    asks=(*_plain("media.*", "downloads.*", "dead.*"), *LOOKS_AT),
    hears=(EVENTS_SUBJECTS, STATUSES),
)


NOTIFY: Final = Role(
    what="`mediabus notify`",
    asks=(
        *_plain(EVENTS_SUBJECTS, f"{NOTIFIER_SUBJECT}>"),
        *_api(f"STREAM.INFO.{NOTIFIER_STREAM}"),
        *INFO,
        *_reads(EVENTS),
        *_reads(NOTIFIER_STREAM),
        *_consumes(NOTIFIER, EVENTS, "*"),
        Asked(dead_letter_subject("*", "*"), letter_requested("*", "*")),
    ),
    denied=(
        dead_letter_subject(PERSISTER, "*"),
        *(
            asked.subject
            for asked in _consumes(PERSISTER, EVENTS, PERSISTER)
            if not asked.subject.endswith(f"CONSUMER.INFO.{EVENTS}.{PERSISTER}")
        ),
    ),
)


def acting(what: str, actor: Actor, *, looks: bool = False) -> Role:
    """Publish events and request operations as ``actor``; with ``looks``, also read everything."""

    def acted(subject: str) -> Asked:
        return Asked(subject, asked_as(actor.type, actor.id, subject))

    looked_at = LOOKS_AT if looks else (*HISTORY, *FOUND)
    return Role(
        what=what,
        asks=(
            acted(EVENTS_SUBJECTS),
            acted("media.*"),
            acted("downloads.*"),
            acted("apps.*"),
            *looked_at,
        ),
        hears=(EVENTS_SUBJECTS, STATUSES) if looks else (),
    )


def _home_assistant() -> Role:
    """Read everything that the entities show, and pause and resume downloads."""
    asked = ("downloads.list", "downloads.pause", "downloads.resume")
    return Role(
        what="`mediabus mqtt`",
        asks=(
            *(Asked(subject, asked_as("user", "homeassistant", subject)) for subject in asked),
            *_plain("apps.list"),
            *HISTORY,
            *INFO,
            *_reads(EVENTS),
            *_reads(BUCKET),
        ),
        hears=(EVENTS_SUBJECTS, STATUSES),
    )


MQTT: Final = _home_assistant()


def looking(who: str) -> Role:
    """Read everything, and change nothing."""
    return Role(
        what=f"read-only: {who}",
        asks=(*LOOKED_UP, *LOOKS_AT),
        hears=(EVENTS_SUBJECTS, STATUSES),
    )


def consuming(name: str) -> Role:
    """Run the consumer ``name``, with its dead letters and the events replayed to it."""
    return Role(
        what=f"the consumer {name}",
        asks=(
            *_consumes("consumer", EVENTS, name),
            *_consumes("consumer", REPLAY_STREAM, name),
            Asked(dead_letter_subject(name, "*"), letter_requested(name, "*")),
            *_api(f"STREAM.INFO.{EVENTS}", f"STREAM.INFO.{REPLAY_STREAM}"),
        ),
    )


BACKUP: Final = ("SNAPSHOT", "RESTORE", "DELETE")
"""Calls of the JetStream API that `mediabus backup` and `mediabus restore` make."""

SERVICE_PUBLISHES: Final = (
    EVENTS_SUBJECTS,
    REPLAY_SUBJECTS,
    f"{PROVEN}.>",
    dead_letter_subject("*", "*"),
    RECORDED_SUBJECT,
    LOOKS_REQUESTED,
    f"{WAKE_SUBJECT}.*",
    f"{API}.STREAM.CREATE.*",
    f"{API}.STREAM.UPDATE.*",
    *(f"{API}.STREAM.INFO.{stream}" for stream in STREAMS),
    *(f"{API}.DIRECT.GET.{stream}" for stream in STREAMS),
    f"{API}.DIRECT.GET.{BUCKET}.>",
    *(f"{API}.STREAM.MSG.GET.{stream}" for stream in STREAMS),
    f"{API}.STREAM.INFO.{NOTIFIER_STREAM}",
    *(f"{API}.STREAM.{call}.{NOTIFIER_STREAM}" for call in BACKUP),
    f"{API}.STREAM.MSG.DELETE.{DEAD}",
    f"{API}.STREAM.PURGE.{DEAD}",
    *(f"{API}.STREAM.{call}.{stream}" for call in BACKUP for stream in STREAMS),
    "$JS.SNAPSHOT.>",
    f"{API}.CONSUMER.CREATE.{DEAD}",
    f"{API}.CONSUMER.CREATE.{DEAD}.>",
    f"{API}.CONSUMER.MSG.NEXT.{DEAD}.*",
    *(f"{API}.CONSUMER.DURABLE.CREATE.{stream}.*" for stream in STREAMS),
    *(f"{API}.CONSUMER.INFO.{stream}.*" for stream in STREAMS),
    *(f"{API}.CONSUMER.LIST.{stream}" for stream in (EVENTS, REPLAY_STREAM)),
)
SERVICE_HEARS: Final = (
    "media.>",
    "downloads.>",
    "dead.>",
    "apps.>",
    WAKE_APPS,
    f"{WAKE_SUBJECT}.*",
    "$SRV.>",
    f"{PROVEN}.>",
    RECORDED_SUBJECT,
    CONSUMERS_REQUESTED,
    LETTERS_REQUESTED,
)
"""The rights of `mediabus service`, which is in the account of the streams.

They cover `mediabus dead retry`, `replay`, `backup` and `restore` too.
"""

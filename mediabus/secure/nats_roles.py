"""Who may do what in NATS: the users of mediabus, each with the least that its work takes."""

from collections.abc import Sequence
from typing import Final

import msgspec

from schemas.subjects import (
    DEAD_LETTERS_STREAM,
    DOWNLOAD_STATUS_BUCKET,
    EVENTS_STREAM,
    REPLAY_STREAM,
)

EVENTS: Final = EVENTS_STREAM
DEAD: Final = DEAD_LETTERS_STREAM
BUCKET: Final = f"KV_{DOWNLOAD_STATUS_BUCKET}"
PERSISTER: Final = f"{EVENTS}.persister"
API: Final = "$JS.API"

INFO: Final = (
    f"{API}.STREAM.INFO.{EVENTS}",
    f"{API}.STREAM.INFO.{DEAD}",
    f"{API}.STREAM.INFO.{REPLAY_STREAM}",
    f"{API}.STREAM.INFO.{BUCKET}",
)
STATUS: Final = (f"{API}.DIRECT.GET.{BUCKET}.>",)
WATCH: Final = (
    f"{API}.CONSUMER.CREATE.{BUCKET}",
    f"{API}.CONSUMER.INFO.{BUCKET}.*",
    f"{API}.CONSUMER.LIST.{BUCKET}",
    f"$JS.FC.{BUCKET}.>",
)
"""What following the bucket takes, a consumer without a name and its flow control, and seeing who
else does."""

READ_DEAD: Final = (
    f"{API}.CONSUMER.CREATE.{DEAD}",
    f"{API}.CONSUMER.CREATE.{DEAD}.>",
    f"{API}.CONSUMER.INFO.{DEAD}.*",
    f"{API}.CONSUMER.MSG.NEXT.{DEAD}.*",
    f"{API}.STREAM.MSG.GET.{DEAD}",
    f"{API}.STREAM.MSG.GET.{EVENTS}",
)
OWN_CONSUMERS: Final = (
    f"{API}.CONSUMER.DURABLE.CREATE.{EVENTS}.*",
    f"{API}.CONSUMER.INFO.{EVENTS}.*",
    f"{API}.CONSUMER.MSG.NEXT.{EVENTS}.*",
    f"{API}.CONSUMER.DELETE.{EVENTS}.*",
)
NOT_THE_PERSISTER: Final = (
    f"{API}.CONSUMER.DURABLE.CREATE.{PERSISTER}",
    f"{API}.CONSUMER.MSG.NEXT.{PERSISTER}",
    f"{API}.CONSUMER.DELETE.{PERSISTER}",
)
LOOKED_UP: Final = (
    "$SRV.>",
    "media.get",
    "media.list",
    "downloads.get",
    "downloads.list",
    "history.>",
)


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """``what`` it is for; the subjects that it may ``publish``, but not those of ``deny``, and
    those that it may ``subscribe`` beside its own inbox; whether it ``answers`` requests."""

    what: str
    publish: Sequence[str]
    deny: Sequence[str] = ()
    subscribe: Sequence[str] = ()
    answers: bool = False


ROLES: Final = {
    "service": Role(
        what="`mediabus service`, which makes the streams; `mediabus dead retry` and `replay`",
        publish=(
            "events.>",
            "replay.>",
            "mediabus.outbox.recorded",
            "mediabus.monitor.look.*",
            f"{API}.STREAM.CREATE.*",
            f"{API}.STREAM.UPDATE.*",
            *INFO,
            *STATUS,
            *READ_DEAD,
            f"{API}.STREAM.MSG.DELETE.{DEAD}",
            *OWN_CONSUMERS,
            f"{API}.CONSUMER.INFO.{REPLAY_STREAM}.*",
        ),
        deny=NOT_THE_PERSISTER,
        subscribe=("media.>", "downloads.>", "$SRV.>", "mediabus.outbox.recorded"),
        answers=True,
    ),
    "monitor": Role(
        what="`mediabus monitor`",
        publish=(
            "events.>",
            "mediabus.outbox.recorded",
            f"$KV.{DOWNLOAD_STATUS_BUCKET}.>",
            *INFO,
            *STATUS,
            *WATCH,
            f"{API}.CONSUMER.DURABLE.CREATE.{BUCKET}.*",
            f"{API}.CONSUMER.MSG.NEXT.{BUCKET}.*",
            f"$JS.ACK.{BUCKET}.>",
        ),
        subscribe=("mediabus.monitor.look.*",),
    ),
    "persister": Role(
        what="`mediabus persist`",
        publish=(
            "dead_letters.persister.*",
            *INFO,
            f"{API}.CONSUMER.DURABLE.CREATE.{PERSISTER}",
            f"{API}.CONSUMER.INFO.{PERSISTER}",
            f"{API}.CONSUMER.MSG.NEXT.{PERSISTER}",
            f"{API}.STREAM.MSG.GET.{EVENTS}",
            f"$JS.ACK.{PERSISTER}.>",
        ),
        subscribe=("history.>", "$SRV.>"),
        answers=True,
    ),
    "publisher": Role(
        what="programs that publish events and ask for operations",
        publish=("events.>", "media.*", "downloads.*", *LOOKED_UP),
    ),
    "viewer": Role(
        what="people and programs that only look: tail, history, top, clients, doctor, dead list",
        publish=(*LOOKED_UP, *INFO, *STATUS, *WATCH, *READ_DEAD, *OWN_CONSUMERS),
        deny=NOT_THE_PERSISTER,
        subscribe=("events.>",),
    ),
}


def user(role: Role, public_key: str) -> str:
    """The user as the server's configuration takes it."""
    inbox = f"_INBOX.{public_key}.>"
    publish = f"publish: {{allow: {_listed(role.publish)}"
    publish += f", deny: {_listed(role.deny)}}}" if role.deny else "}"
    lines = [publish, f"subscribe: {_listed((inbox, *role.subscribe))}"]
    if role.answers:
        # One process may answer the same question several times: $SRV.INFO, for each service.
        lines.append('allow_responses: {max: 10, expires: "2m"}')
    rules = "\n        ".join(lines)
    return f"""\
    # {role.what}
    {{
      nkey: {public_key}
      permissions {{
        {rules}
      }}
    }}
"""


def _listed(subjects: Sequence[str]) -> str:
    quoted = (f'"{subject}"' for subject in dict.fromkeys(subjects))
    return "[\n          " + "\n          ".join(quoted) + "\n        ]"

"""The message that makes the reader of an application read at once. Pure."""

from typing import Annotated, Final

import msgspec

from mediabus.service.apps.port import Removal, Webhook
from mediabus.service.clients.tolerant import MAX_BIGINT

LIBRARY_KINDS: Final = frozenset({"SeriesAdd", "SeriesDelete", "MovieAdded", "MovieDelete"})
"""The webhooks about the library."""

MAX_KIND: Final = 255
"""Characters of a kind in the message."""


class Wake(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the webhook was about. ``removed`` is the number of a series or movie."""

    kind: str = ""
    removed: Annotated[int, msgspec.Meta(gt=0, le=MAX_BIGINT)] | None = None
    files_deleted: bool = False

    @property
    def is_about_library(self) -> bool:
        return self.kind in LIBRARY_KINDS

    @property
    def removal(self) -> Removal | None:
        return None if self.removed is None else Removal(self.removed, self.files_deleted)


def encode_wake(webhook: Webhook) -> bytes:
    """Return the message about a webhook."""
    kind = webhook.kind[:MAX_KIND].encode(errors="replace").decode()
    item, files_deleted = webhook.removal or (None, False)
    return msgspec.json.encode(Wake(kind, item, files_deleted))


def decode_wake(message: bytes) -> Wake:
    """Return what a message says. One that cannot be read only wakes the reader."""
    try:
        return msgspec.json.decode(message, type=Wake)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Wake()

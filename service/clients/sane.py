"""Bring the status of a download within the limits of events and PostgreSQL.

Texts are shortened and numbers are clamped. A status without a usable id is rejected.
"""

from typing import Final

import msgspec

from mediabus.schemas.status import DownloadStatus, ItemId
from mediabus.service.clients.limits import MAX_ID_LENGTH, MAX_MESSAGE_LENGTH, cut

LONGEST: Final[dict[str, int]] = {
    "title": 1_000,
    "save_path": 4_096,
    "category": 255,
    "message": MAX_MESSAGE_LENGTH,
    "warning": MAX_MESSAGE_LENGTH,
    "client_state": 100,
}
"""The longest texts of a status, in characters. A path in Linux has at most 4,096 bytes."""

NUMBERS: Final = ("size", "downloaded", "uploaded", "download_rate", "upload_rate", "eta")
"""The numeric fields that must not be negative or above ``MAX_NUMBER``."""

MAX_NUMBER: Final = 2**63 - 1
"""The largest ``bigint`` of PostgreSQL."""

MAX_ALIASES: Final = 10
"""Other ids of one download."""


def is_item_id(item: object) -> bool:
    """Return whether the id can be a key of the status bucket and a value in PostgreSQL."""
    return isinstance(item, str) and 0 < len(item) <= MAX_ID_LENGTH and item.isprintable()


def sane_id(item: str) -> ItemId:
    """Return the id.

    Raises:
        ValueError: the id is empty, too long, or not printable.
    """
    if not is_item_id(item):
        raise ValueError(
            f"{str(item)[:50]!r} is not a valid download id: "
            f"expected 1 to {MAX_ID_LENGTH} printable characters"
        )
    return ItemId(item)


def sane(status: DownloadStatus) -> DownloadStatus:
    """Return the status within limits.

    Raises:
        ValueError: the status has no usable id.
    """
    sane_id(status.item)
    changed: dict[str, object] = {}
    for name, longest in LONGEST.items():
        text = getattr(status, name)
        if text is not None and (len(text) > longest or not text.isascii() or "\0" in text):
            shorter = cut(text, longest)
            if shorter != text:
                changed[name] = shorter
    for name in NUMBERS:
        number = getattr(status, name)
        if number is not None and not 0 <= number <= MAX_NUMBER:
            changed[name] = min(max(number, 0), MAX_NUMBER)
    if len(status.aliases) > MAX_ALIASES or not all(map(is_item_id, status.aliases)):
        changed["aliases"] = tuple(filter(is_item_id, status.aliases[:MAX_ALIASES]))
    if not 0 <= status.progress <= 1:
        changed["progress"] = 1.0 if status.progress > 1 else 0.0  # NaN becomes 0
    return msgspec.structs.replace(status, **changed) if changed else status

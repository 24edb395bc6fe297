"""Build pages that fit into one NATS message."""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec

from mediabus.schemas.operations.requests import Page

MOST_REPLY_BYTES: Final = 1_000_000
"""Fits into the smallest max_payload that mediabus accepts, with room for headers."""

ROOM_FOR_THE_PAGE: Final = 1_000
OMITTED: Final = "mediabus_omitted_bytes"
"""Key that replaces data too large for a page. Its value is the size in bytes."""

Item = TypeVar("Item", bound=msgspec.Struct)


def paged(
    items: Sequence[Item],
    *,
    found: int,
    cursor: Callable[[Item], str],
    stub: Callable[[Item, int], Item],
    most_bytes: int = MOST_REPLY_BYTES,
) -> Page[Item]:
    """Return a page with as many items as fit into one reply, and the cursor of the next page.

    ``found`` is the number of items including those after this page. ``stub`` replaces an item that
    is too large for any page; it gets the item's size in bytes.
    """
    shown: list[Item] = []
    left = most_bytes - ROOM_FOR_THE_PAGE
    for item in items:
        size = _size(item)
        if size > most_bytes - ROOM_FOR_THE_PAGE:
            small = stub(item, size)
            size = _size(small)
        else:
            small = item
        if shown and size > left:
            break
        shown.append(small)
        left -= size
    return Page(items=shown, next=cursor(shown[-1]) if found > len(shown) else None)


def _size(item: msgspec.Struct) -> int:
    """Return the size of an item and a comma in bytes."""
    return len(msgspec.json.encode(item)) + 1

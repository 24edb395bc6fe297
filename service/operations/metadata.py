"""Measure and limit the metadata of media items, in the size that PostgreSQL stores."""

import decimal
from typing import Any, Final

import msgspec

MAX_METADATA_BYTES: Final = 256 * 1024
"""Bytes: the old and the new metadata together must fit in an event."""


def written_size(value: object) -> int:
    """Return the bytes of a JSON value with every number written out.

    A column of type jsonb stores ``1e300`` with 301 digits.
    """
    size = 0
    pending = [value]
    while pending:
        match pending.pop():
            case dict() as table:
                size += 2 + sum(4 + _encoded_size(name) for name in table)
                pending.extend(table.values())
            case list() as items:
                size += 2 + 2 * len(items)
                pending.extend(items)
            case float() as number:
                size += len(format(decimal.Decimal(repr(number)), "f"))
            case other:
                size += _encoded_size(other)
    return size


def shown_in_event(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata, or a placeholder with its size if it exceeds the limit.

    Metadata stored before the limit existed can exceed it.
    """
    size = written_size(metadata)
    return metadata if size <= MAX_METADATA_BYTES else {"mediabus_omitted_bytes": size}


def _encoded_size(value: object) -> int:
    return len(msgspec.json.encode(value))

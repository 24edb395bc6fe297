"""Locate values in bencoded bytes without decoding them.

A torrent's id is the hash of the original bytes of its ``info``, so nothing is decoded and encoded
again. Like the clients, this parser accepts keys in any order, duplicate keys, leading zeros, and
trailing bytes. It takes linear time, does not recurse, and limits depth and number of values.
"""

import re
from typing import Final

MAX_DEPTH: Final = 512
"""Nesting depth. libtorrent accepts 100 levels, rTorrent 1,024."""

MAX_VALUES: Final = 2_000_000
"""Values in a file, as in libtorrent."""

MAX_KEYS: Final = 10_000
"""Keys of a dictionary that ``dictionary`` reads."""

VALUE: Final = re.compile(rb"(\d{1,10}):|i *[+-]?\d*e|([ld])|(e)")
NUMBER: Final = re.compile(rb"i *\+?(-?\d{1,19})e")

Span = tuple[int, int]
"""The start and end of a value, as byte offsets."""


class NotBencoded(ValueError):
    """The bytes are not bencoded, or exceed a limit. The message names the offset."""


def dictionary(content: bytes, start: int = 0) -> dict[bytes, list[Span]]:
    """Return the spans of the values of the dictionary at ``start``, by key.

    A duplicate key has several spans.

    Raises:
        NotBencoded: there is no valid dictionary at ``start``.
    """
    if content[start : start + 1] != b"d":
        raise NotBencoded(_what_is_wrong(content, start))
    spans: dict[bytes, list[Span]] = {}
    at = start + 1
    for _ in range(MAX_KEYS + 1):
        if content[at : at + 1] == b"e":
            return spans
        key, at = _key(content, at)
        end = end_of(content, at)
        spans.setdefault(key, []).append((at, end))
        at = end
    raise NotBencoded(f"more than {MAX_KEYS} keys in a dictionary")


def end_of(content: bytes, start: int) -> int:
    """Return the offset after the value that starts at ``start``.

    Raises:
        NotBencoded: there is no valid value at ``start``.
    """
    at, depth = start, 0
    for _ in range(MAX_VALUES):
        match = VALUE.match(content, at)
        if match is None:
            raise NotBencoded(_what_is_wrong(content, at))
        at = match.end()
        length, opens, closes = match.groups()
        if length:
            at = _behind_text(content, at, int(length))
        elif opens:
            depth += 1
            if depth > MAX_DEPTH:
                raise NotBencoded(f"nested deeper than {MAX_DEPTH} levels at byte {at}")
        elif closes:
            depth -= 1
        if depth <= 0:
            if depth < 0:
                raise NotBencoded(f"unexpected end marker at byte {at - 1}")
            return at
    raise NotBencoded(f"more than {MAX_VALUES} values")


def text_in(content: bytes, span: Span) -> bytes | None:
    """Return the value as bytes; None if it is not a string."""
    value = content[span[0] : span[1]]
    match = VALUE.match(value)
    return value[match.end() :] if match and match[1] else None


def number_in(content: bytes, span: Span) -> int | None:
    """Return the value as a number; None if it is not one or has more than 19 digits."""
    match = NUMBER.fullmatch(content, *span)
    return int(match[1]) if match else None


def _key(content: bytes, at: int) -> tuple[bytes, int]:
    match = VALUE.match(content, at)
    if match is None or not match[1]:
        raise NotBencoded(_what_is_wrong(content, at))
    end = _behind_text(content, match.end(), int(match[1]))
    return content[match.end() : end], end


def _behind_text(content: bytes, at: int, length: int) -> int:
    if at + length > len(content):
        raise NotBencoded(f"it ends inside a string of {length} bytes")
    return at + length


def _what_is_wrong(content: bytes, at: int) -> str:
    if at >= len(content):
        return "it ends too early" if content else "empty"
    return f"unexpected bytes at offset {at}: {content[at : at + 10]!r}"

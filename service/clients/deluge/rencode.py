"""Encode and decode rencode, the serialization format of Deluge's daemon.

Each value starts with one byte: its type, or a short value or length itself. The source of the type
codes is the description in the rencode package (1.0, which all of Deluge 2 uses).
"""

import struct
from collections.abc import Callable
from typing import Final, TypeAlias, TypeVar

from mediabus.service.clients.limits import MAX_DEPTH, MAX_RENCODE_VALUES, LimitExceeded

T = TypeVar("T")

Value: TypeAlias = (
    "bool | int | float | str | list[Value] | tuple[Value, ...] | dict[Value, Value] | None"
)

FLOAT64: Final = 44
LONG_LIST: Final = 59
LONG_DICT: Final = 60
BIG_INT: Final = 61
TRUE: Final = 67
FALSE: Final = 68
NONE: Final = 69
END: Final = 127

SHORT_INTS: Final = range(44)
SHORT_NEGATIVE_INTS: Final = range(70, 102)  # -1 to -32
SHORT_DICTS: Final = range(102, 127)
SHORT_TEXTS: Final = range(128, 192)
SHORT_LISTS: Final = range(192, 256)
DIGITS: Final = range(48, 58)  # the length of a text, followed by a colon

NUMBERS: Final = {
    62: struct.Struct("!b"),
    63: struct.Struct("!h"),
    64: struct.Struct("!i"),
    65: struct.Struct("!q"),
    66: struct.Struct("!f"),
    FLOAT64: struct.Struct("!d"),
}
BITS: Final = {62: 8, 63: 16, 64: 32, 65: 64}
LONGEST_NUMBER: Final = 80


def encode(value: object) -> bytes:
    """Encode a value. Raises TypeError for a type that rencode lacks."""
    match value:
        case bool() | None:
            return bytes([{True: TRUE, False: FALSE, None: NONE}[value]])
        case int():
            return _encode_int(value)
        case float():
            return bytes([FLOAT64]) + NUMBERS[FLOAT64].pack(value)
        case str():
            return _encode_text(value.encode())
        case list() | tuple():
            return _encode_many([encode(item) for item in value], len(value), SHORT_LISTS)
        case dict():
            pairs = [encode(key) + encode(item) for key, item in value.items()]
            return _encode_many(pairs, len(value), SHORT_DICTS)
        case _:
            raise TypeError(f"rencode has no {type(value).__name__}")


def _encode_text(text: bytes) -> bytes:
    if len(text) < len(SHORT_TEXTS):
        return bytes([SHORT_TEXTS[len(text)]]) + text
    return b"%d:%b" % (len(text), text)


def _encode_int(value: int) -> bytes:
    if value in SHORT_INTS:
        return bytes([value])
    if -len(SHORT_NEGATIVE_INTS) <= value < 0:
        return bytes([SHORT_NEGATIVE_INTS[-1 - value]])
    for code, bits in BITS.items():
        if -(1 << bits - 1) <= value < 1 << bits - 1:
            return bytes([code]) + NUMBERS[code].pack(value)
    return b"%c%d%c" % (BIG_INT, value, END)


def _encode_many(items: list[bytes], count: int, short: range) -> bytes:
    if count < len(short):
        return bytes([short[count]]) + b"".join(items)
    start = LONG_LIST if short is SHORT_LISTS else LONG_DICT
    return bytes([start]) + b"".join(items) + bytes([END])


def decode(data: bytes) -> Value:
    """Decode one value from all of the bytes. Raises ValueError.

    Lists become tuples. Bytes of text that are not UTF-8 become replacement characters.
    """
    reader = _Reader(data)
    try:
        value = reader.value()
    except (IndexError, struct.error, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"not rencode: {error}") from error
    if reader.at != len(data):
        raise ValueError(f"not rencode: {len(data) - reader.at} bytes follow the value")
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._depth = 0
        self._values = 0
        self.at = 0

    def value(self) -> Value:
        code = self._data[self.at]
        self.at += 1
        self._values += 1
        if self._values > MAX_RENCODE_VALUES:
            raise LimitExceeded(f"more than {MAX_RENCODE_VALUES} values")
        read = READ.get(code)
        if read is None:
            raise ValueError(f"type {code}")
        return read(self, code)

    def number(self, code: int) -> int | float:
        form = NUMBERS[code]
        number: int | float = form.unpack_from(self._data, self.at)[0]
        self.at += form.size
        return number

    def big_int(self) -> int:
        return int(self._until(END))

    def text(self, length: int) -> str:
        text = self._data[self.at : self.at + length]
        if len(text) != length:
            raise ValueError("it ends inside a text")
        self.at += length
        return text.decode(errors="replace")

    def long_text(self) -> str:
        self.at -= 1  # the type was the first digit
        return self.text(int(self._until(ord(":"))))

    def _until(self, end: int) -> bytes:
        start = self.at
        found = self._data.find(end, start, start + LONGEST_NUMBER)
        if found < 0:
            raise ValueError("a number without an end")
        self.at = found + 1
        return self._data[start:found]

    def tuple_of(self, count: int | None) -> tuple[Value, ...]:
        return tuple(self._many(count, self.value))

    def dict_of(self, count: int | None) -> dict[Value, Value]:
        return dict(self._many(count, lambda: (self.value(), self.value())))

    def _many(self, count: int | None, read: Callable[[], T]) -> list[T]:
        """Read ``count`` items, or all up to the end mark."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise LimitExceeded(f"lists are nested more than {MAX_DEPTH} levels deep")
        if count is not None:
            items = [read() for _ in range(count)]
        else:
            items = []
            while self._data[self.at] != END:
                items.append(read())
            self.at += 1
        self._depth -= 1
        return items


READ: Final[dict[int, Callable[[_Reader, int], Value]]] = {
    **dict.fromkeys(SHORT_INTS, lambda _, code: code),
    **dict.fromkeys(SHORT_NEGATIVE_INTS, lambda _, code: SHORT_NEGATIVE_INTS[0] - 1 - code),
    **dict.fromkeys(SHORT_TEXTS, lambda reader, code: reader.text(code - SHORT_TEXTS[0])),
    **dict.fromkeys(SHORT_LISTS, lambda reader, code: reader.tuple_of(code - SHORT_LISTS[0])),
    **dict.fromkeys(SHORT_DICTS, lambda reader, code: reader.dict_of(code - SHORT_DICTS[0])),
    **dict.fromkeys(DIGITS, lambda reader, _: reader.long_text()),
    **dict.fromkeys(NUMBERS, lambda reader, code: reader.number(code)),
    LONG_LIST: lambda reader, _: reader.tuple_of(None),
    LONG_DICT: lambda reader, _: reader.dict_of(None),
    BIG_INT: lambda reader, _: reader.big_int(),
    TRUE: lambda _, __: True,
    FALSE: lambda _, __: False,
    NONE: lambda _, __: None,
}

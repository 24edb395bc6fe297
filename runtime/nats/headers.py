"""The headers of a NATS message, read and written at a part of what nats-py takes for it."""

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Final

from nats.errors import BadHeaderError

NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


class RawHeaders(Mapping[str, str]):
    """The headers of a message as they came, taken apart where somebody asks for one that may be
    there: for most events nobody does, and it is a tenth of what an event costs its consumer."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    @functools.cached_property
    def _parsed(self) -> dict[str, str]:
        return headers_of(self._raw)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.encode() in self._raw and name in self._parsed

    def __getitem__(self, name: str) -> str:
        return self._parsed[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parsed)

    def __len__(self) -> int:
        return len(self._parsed)


def headers_of(raw: bytes) -> dict[str, str]:
    """What the lines say, whatever bytes they hold; one without a colon says nothing."""
    lines = (line.partition(":") for line in raw.decode(errors="replace").split("\r\n"))
    return {name.strip(): value.strip() for name, colon, value in lines if colon}


def as_bytes(headers: Mapping[str, str]) -> bytes:
    """As nats-py writes them: each value on one line, whatever is in it. Raises BadHeaderError."""
    lines = ["NATS/1.0"]
    for name, value in headers.items():
        if not (name := name.strip()):
            continue
        if not NAME.fullmatch(name):
            raise BadHeaderError(name)
        one_line = value.strip().replace("\r", " ").replace("\n", " ")
        lines.append(f"{name}: {one_line}")
    return "\r\n".join([*lines, "", ""]).encode()

"""Make text from other programs safe for a terminal: replace control characters."""

import io
import re
import sys
from typing import Final

from mediabus.schemas.plain_text import REPLACEMENT, plain

__all__ = ["VisibleWriter", "json_line", "make_output_visible", "plain", "plain_lines"]

STYLE: Final = re.compile(
    r"\x1b\[(?:[0-4]|[34][0-79]|9[0-7]|[34]8;5;\d{1,3}|[34]8;2(?:;\d{1,3}){3}|;)*m"
)
"""The escape sequences of click and rich for colors, bold, dim, italic and underline. Sequences for
hidden, reversed or blinking text are not included."""


def plain_lines(text: str) -> str:
    """Like ``plain``, but keep line breaks, tabs and colors."""
    if text.replace("\n", "").isprintable():
        return text
    parts, end = [], 0
    for style in STYLE.finditer(text):
        parts += [_plain_between(text[end : style.start()]), style[0]]
        end = style.end()
    return "".join((*parts, _plain_between(text[end:])))


def _plain_between(text: str) -> str:
    return "".join(c if c.isprintable() or c in "\n\t" else REPLACEMENT for c in text)


def json_line(encoded: bytes) -> bytes:
    """Return equivalent JSON as one line that is safe for a terminal.

    Escapes unprintable characters in strings. Outside of strings, JSON can only have white space.
    """
    text = encoded.decode()
    if text.isprintable():
        return encoded
    return "".join(c if c.isprintable() else _escaped(c) for c in text).encode()


def _escaped(character: str) -> str:
    if character in "\n\r\t":
        return " "
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[n : n + 2].hex()}" for n in range(0, len(units), 2))


class VisibleWriter(io.TextIOWrapper):
    """A standard stream that makes all text safe for a terminal."""

    def write(self, text: str, /) -> int:
        """Write text. Characters that the encoding lacks are escaped."""
        super().write(plain_lines(text))
        return len(text)


def make_output_visible() -> None:
    """Make all text on standard output and standard error safe for a terminal.

    The original streams remain ``sys.__stdout__`` and ``sys.__stderr__``.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and not isinstance(stream, VisibleWriter):
            stream.flush()
            writer = VisibleWriter(
                stream.buffer,
                encoding=stream.encoding,
                errors="backslashreplace",
                line_buffering=stream.line_buffering or name == "stderr",
                write_through=stream.write_through,
            )
            setattr(sys, name, writer)

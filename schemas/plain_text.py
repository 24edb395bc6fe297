"""Make text from other programs safe to show: one line without control characters."""

from typing import Final

REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"


def plain(text: str) -> str:
    """Return text as one line without control characters.

    Replaces escape sequences, line breaks and marks that change the direction of writing.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else REPLACEMENT for c in text)

"""Map a client's error text to a failure reason: the table that all clients share."""

import re
from collections.abc import Iterator
from typing import Final

from mediabus.schemas.status import FailureReason
from mediabus.service.clients.os_errors import BY_NAME, BY_NUMBER, TEXTS

Words = tuple[tuple[str, FailureReason], ...]
"""Parts of a client's texts, in lower case, with their reasons. The first match counts."""

CLIENT_WORDS: Final[Words] = (
    ("no data found", "missing_files"),  # Transmission
    ("missing or invalid torrent data", "missing_files"),  # Deluge
    ("unable to locate download folder", "missing_files"),  # Deluge
    ("download registered as completed, but", "missing_files"),  # rTorrent
    ("failed to move download folder", "not_writable"),  # Deluge
    ("low diskspace", "disk_full"),  # rTorrent
    ("bt-stop-timeout", "no_sources"),  # aria2
)
"""Texts of the clients themselves, where they mean the same in every client."""

SYSTEM_WORDS: Final = tuple((text, BY_NAME[name]) for name in TEXTS for text in TEXTS[name])

NUMBER: Final = re.compile(r"\berrno\W{0,3}(\d{1,5})\b", re.IGNORECASE)
NAME: Final = re.compile(r"\bE[A-Z]{2,14}\b")
WRITES: Final = re.compile(
    r"\b(unable to|could ?n[o']t|can ?no?'?t|failed to) (save|create|make|write)\b|\bmkdir\b"
)
PATH_IN_BRACKETS: Final = re.compile(r"\(/[^()]*\)")


def failure_reason(words: str, own: Words = ()) -> FailureReason:
    """Return the reason for an error text; ``client_error`` if no table has it.

    ``own`` are the texts of one client only. They take precedence.
    """
    lowered = words.lower()
    known = (*own, *CLIENT_WORDS)
    named = next((reason for text, reason in known if text in lowered), None)
    reason = named or system_reason(words) or "client_error"
    # "No such file" from an attempt to write means that the folder is missing.
    return "not_writable" if reason == "missing_files" and WRITES.search(lowered) else reason


def system_reason(words: str) -> FailureReason | None:
    """Return the reason for the operating system's part of the text, None without one.

    If several texts match, the last one counts: paths and titles come first, the cause at the end.
    """
    plain = PATH_IN_BRACKETS.sub("", words)
    return max(_system_matches(plain), default=(0, None), key=lambda match: match[0])[1]


def _system_matches(words: str) -> Iterator[tuple[int, FailureReason]]:
    """Yield the end of each match and its reason."""
    lowered = words.lower()
    for text, reason in SYSTEM_WORDS:
        at = lowered.rfind(text)
        if at >= 0:
            yield at + len(text), reason
    for match in NUMBER.finditer(words):
        if named := BY_NUMBER.get(int(match[1])):
            yield match.end(), named
    for match in NAME.finditer(words):
        if named := BY_NAME.get(match[0]):
            yield match.end(), named

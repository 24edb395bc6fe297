"""From a client's words about a failure to the reason in our vocabulary."""

from typing import Final

from schemas.status import FailureReason

REASONS: Final[tuple[tuple[str, FailureReason], ...]] = (
    ("no space left on device", "disk_full"),
    ("not enough space", "disk_full"),  # Windows
    ("disk quota exceeded", "disk_full"),
    ("file too large", "disk_full"),  # FAT's 4 GiB
    ("no data found", "missing_files"),  # Transmission
    ("no such file or directory", "missing_files"),
    ("permission denied", "not_writable"),
    ("read-only file system", "not_writable"),
    ("not a directory", "not_writable"),
)
"""Pieces of strerror(3) and of the clients' own messages, in lower case; the first one counts."""


def failure_reason(words: str) -> FailureReason:
    """The reason that these words name; ``client_error`` for words that are not in the table."""
    lowered = words.lower()
    return next((reason for text, reason in REASONS if text in lowered), "client_error")

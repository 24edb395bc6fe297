"""What the usenet clients have in common: the NZB before they are asked, and why they failed."""

import re
from typing import Final

from schemas.status import FailureReason
from service.clients.port import ClientRefused, NzbFile, Source
from service.clients.reasons import failure_reason

LONGEST_NAME: Final = 200
"""Bytes of UTF-8. File systems take 255, and clients add to it, such as ``.nzb.queued``."""

WORDS: Final[tuple[tuple[str, FailureReason], ...]] = (
    ("disk full", "disk_full"),
    ("disk is full", "disk_full"),
    ("too little diskspace", "disk_full"),
    ("password", "password"),
    ("encrypt", "password"),
    ("cannot create final folder", "not_writable"),
    ("cannot be completed", "missing_articles"),
    ("repair failed", "missing_articles"),  # too few recovery blocks
    ("unpack", "unpack"),
    ("crc error", "unpack"),
    ("unwanted extension", "rejected"),
    ("duplicate", "rejected"),
)
"""Pieces of what usenet clients and their unpackers say, in lower case; the first one counts."""


def usenet_reason(words: str) -> FailureReason:
    """The reason that these words name; ``client_error`` if none. What the system said, such as
    that the disk is full, comes before what that led to."""
    reason = failure_reason(words)
    if reason != "client_error":
        return reason
    lowered = words.lower()
    return next((reason for text, reason in WORDS if text in lowered), "client_error")


def nzb_for(program: str, source: Source) -> NzbFile:
    """The source, if it is an NZB that a client can be asked to download. ClientRefused if not,
    before the client is asked."""
    if not isinstance(source, NzbFile):
        raise ClientRefused(f"{program} downloads from usenet; a torrent is for a torrent client")
    if b"<segment" not in source.content:
        raise ClientRefused("not a usable nzb file: it names no articles")
    return source


def file_name(name: str) -> str:
    """The name for a folder: what would make it a path, hide it or be too long is gone."""
    plain = re.sub(r"[\x00-\x1f\x7f/\\]", "_", name.removesuffix(".nzb")).strip().lstrip(".")
    cut = plain.encode()[:LONGEST_NAME].decode(errors="ignore").rstrip(" .")
    return cut or "download"

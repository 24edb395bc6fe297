"""Check NZB files before the usenet clients get them, and interpret why downloads failed."""

import bz2
import codecs
import gzip
import io
import re
import zlib
from collections.abc import Callable
from typing import Final

from mediabus.schemas.status import FailureReason
from mediabus.service.clients.failure_reasons import Words, failure_reason, system_reason
from mediabus.service.clients.port import ClientRefused, NzbFile, Source

MAX_NAME_BYTES: Final = 200
"""Bytes of UTF-8. File systems allow 255, and clients append text such as ``.nzb.queued``."""

MAX_NZB_BYTES: Final = 64 * 1024 * 1024
"""Bytes of a decompressed NZB. That of a download of 100 GB has about 20 million."""

HEAD: Final = 8000
"""Bytes in which the root element must begin."""

COMPRESSED: Final[dict[bytes, Callable[[io.BytesIO], io.BufferedIOBase]]] = {
    b"\x1f\x8b": gzip.open,
    b"BZ": bz2.open,
}
"""The first bytes of a compressed NZB, and the function that decompresses it."""

SEGMENT: Final = re.compile(r"<(?:[\w.-]+:)?segment[\s/>]", re.IGNORECASE)
ROOT: Final = re.compile(r"<(?:[\w.-]+:)?nzb[\s/>]", re.IGNORECASE)
ENTITY: Final = re.compile(r"<!ENTITY\b")

WORDS: Final[Words] = (
    ("disk full", "disk_full"),
    ("disk is full", "disk_full"),
    ("too little diskspace", "disk_full"),
    ("file too large for filesystem", "disk_full"),  # FAT's 4 GiB
    ("password", "password"),
    ("encrypt", "password"),
    ("cannot create final folder", "not_writable"),
    ("cannot be renamed to", "not_writable"),
    ("failed to move files", "not_writable"),
    ("cannot be completed", "missing_articles"),
    ("not on your server", "missing_articles"),
    ("download might fail, only", "missing_articles"),
    ("incomplete sequence of joinable files", "missing_articles"),
    ("repair failed", "missing_articles"),  # too few recovery blocks
    ("invalid par2 files", "missing_articles"),
    ("no details available for recoverable file", "missing_articles"),
    ("repairing failed", "missing_articles"),
    ("failed to verify", "missing_articles"),
    ("unable to find", "unpack"),  # a volume
    ("unpack", "unpack"),
    ("crc error", "unpack"),
    ("unusable rar file", "unpack"),
    ("corrupt rar file", "unpack"),
    ("file join of", "unpack"),
    ("unwanted extension", "rejected"),
    ("duplicate", "rejected"),
    ("unusable nzb file", "rejected"),
    ("empty nzb file", "rejected"),
    ("pre-queue script", "rejected"),
)
"""Parts of messages of usenet clients and unpackers, in lower case. The first match counts."""


def usenet_reason(words: str) -> FailureReason:
    """Return the failure reason for a message, or ``client_error`` if it is not known.

    An error of the system, such as a full disk, takes precedence over its consequences.
    """
    return system_reason(words) or failure_reason(words, WORDS)


def nzb_for(program: str, source: Source) -> NzbFile:
    """Return the source, decompressed, if it is an NZB that a client can download.

    Does not validate the XML, which the client does. A large file takes time: call this in a
    thread. Raises ClientRefused if the source is not a usable NZB.
    """
    if not isinstance(source, NzbFile):
        raise ClientRefused(f"{program} downloads from usenet; a torrent is for a torrent client")
    try:
        content = decompressed(source.content)
    except ValueError as error:
        raise ClientRefused(f"not a usable nzb file: {error}") from error
    text = _text(content)
    if ENTITY.search(text):
        raise ClientRefused("not a usable nzb file: it declares entities, which no nzb needs")
    if not SEGMENT.search(text):
        raise ClientRefused("not a usable nzb file: it names no articles")
    return NzbFile(content, name_of(source.name))


def is_nzb(content: bytes) -> bool:
    """Return whether the bytes start like an NZB, compressed or not."""
    try:
        head = decompressed(content, most=HEAD, whole=False)
    except ValueError:
        return False
    text = _text(head.removeprefix(codecs.BOM_UTF8)).lstrip("\ufeff \t\r\n")
    return text.startswith("<") and ROOT.search(text) is not None


def decompressed(content: bytes, *, most: int = MAX_NZB_BYTES, whole: bool = True) -> bytes:
    """Decompress gzip or bzip2. Return other bytes unchanged.

    Reads at most ``most`` bytes. Raises ValueError if the content cannot be decompressed or, with
    ``whole``, if it is longer.
    """
    opener = COMPRESSED.get(content[:2])
    try:
        file = opener(io.BytesIO(content)) if opener else io.BytesIO(content)
        found: bytes = file.read(most + 1 if whole else most)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"it cannot be decompressed: {error}") from error
    if whole and len(found) > most:
        raise ValueError(f"it has more than {most} bytes")
    return found


def _text(content: bytes) -> str:
    """Decode the bytes without errors. Only the markup of XML matters, which is ASCII."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace")
    if content[1:2] == b"\0" or content[:1] == b"\0":
        return content.decode("utf-16-be" if content[:1] == b"\0" else "utf-16-le", "replace")
    return content.decode("latin-1")


def name_of(file: str) -> str:
    """Return the name of a file without the extensions of an NZB."""
    return re.sub(r"(\.nzb)?(\.gz|\.bz2)?$", "", file, count=1, flags=re.IGNORECASE)


def file_name(name: str) -> str:
    """Return a safe folder name: not a path, not hidden, not too long."""
    plain = re.sub(r"[\x00-\x1f\x7f/\\]", "_", name.removesuffix(".nzb")).strip().lstrip(".")
    cut = plain.encode()[:MAX_NAME_BYTES].decode(errors="ignore").rstrip(" .")
    return cut or "download"

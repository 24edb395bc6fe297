"""Read text files that people write: settings, passwords and keys."""

import codecs
import os
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 4_000_000
"""Maximum size of a file in bytes. Reading a device would never end."""

UTF_16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class NotText(ValueError):
    """A file does not hold text, or is too large. The message never quotes the file."""


def expanded(path: str) -> str:
    """Expand ``~`` in a path."""
    return os.path.expanduser(path)  # noqa: PTH111 - Path.expanduser raises without a home


def read_text(path: str | Path) -> str:
    """Read a file in UTF-8 or UTF-16, without its byte order mark. Raises OSError and NotText."""
    with Path(expanded(str(path))).open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise NotText(f"it has more than {MAX_BYTES} bytes")
    encoding = "utf-16" if raw.startswith(UTF_16) else "utf-8-sig"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        raise NotText("it is not text in UTF-8") from None  # the cause quotes a byte of a secret


def read_certificates(path: str) -> str:
    """Read the certificates in a PEM file. Raises OSError and NotText.

    An empty file is an error: without certificates, ``ssl`` would trust all authorities of the
    system.
    """
    text = read_text(path).encode("ascii", "ignore").decode()
    if "-----BEGIN " not in text:
        raise NotText("it has no certificate in PEM format")
    return text

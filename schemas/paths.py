"""Reject texts of a request that a download client could take for a path."""

import re
import unicodedata
from typing import Final

DRIVE: Final = re.compile(r"[A-Za-z]:")
DRIVE_AND_PATH: Final = re.compile(r"[A-Za-z]:([\\/]|$)")
ONLY_DOTS: Final = re.compile(r"[.\s]*\.[.\s]*")
PARENT: Final = re.compile(r"[.\s]*\.\.[.\s]*")

CONTROL: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode's categories of control characters, surrogates, and line and paragraph separators."""


def unsafe_folder(name: str) -> str | None:
    """Return why a folder with this name could be outside its parent; None if it cannot.

    Clients use a category as the name of a folder. ``tv/anime`` is a folder inside a folder.
    """
    if not name.strip():
        return "it is blank"
    if name.lstrip().startswith("~"):
        return "it starts with ~, which can be a home directory"
    if DRIVE.match(name.lstrip()):
        return "it starts with a drive letter"
    if any(ONLY_DOTS.fullmatch(part) for part in name.split("/")):
        return "a part of it is only dots, which can be another folder"
    return unsafe_title(name)


def unsafe_title(title: str) -> str | None:
    """Return why a client could take this title for a path elsewhere; None if it cannot.

    A title may contain ``/``, ``~`` and ``:``, as in ``Face/Off``.
    """
    control = next((sign for sign in title if unicodedata.category(sign) in CONTROL), None)
    if control is not None:
        return f"it holds the control character U+{ord(control):04X}"
    plain = title.strip()
    if plain.startswith(("/", "~/")):
        return "it starts as an absolute path does"
    if "\\" in plain:
        return "it holds a backslash"
    if DRIVE_AND_PATH.match(plain):
        return "it starts with a drive letter"
    if any(PARENT.fullmatch(part) for part in plain.split("/")):
        return "a part of it is '..', which can be another folder"
    return None

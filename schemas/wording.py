"""The words for people behind the values of events: reasons, sizes, durations, programs."""

import math
from typing import Final

REASONS: Final = {
    "connection": "no connection",
    "authentication": "wrong user name or password",
    "banned": "blocked after too many failed logins",
    "rate_limited": "too many requests",
    "tls": "invalid certificate",
    "protocol": "unexpected answer",
    "no_sources": "no sources left",
    "missing_files": "its files are missing",
    "missing_articles": "articles are missing",
    "disk_full": "the disk is full",
    "not_writable": "the folder is not writable",
    "rejected": "the client rejected it",
    "unpack": "unpacking failed",
    "password": "the archive needs a password",
    "removed_from_client": "it is no longer in its client",
    "client_error": "error in the client",
    "manual": "by hand",
    "upgrade": "a better file replaced it",
    "missing": "it had disappeared from the disk",
    "no_longer_linked": "nothing needs it any more",
    "other": "for another reason",
}
"""The words for each reason of a failure or of an outage."""

VAGUE_REASONS: Final = frozenset({"client_error", "protocol", "rejected"})
"""Reasons that say less than the error message next to them."""

PROGRAMS: Final = {
    "aria2": "aria2",
    "deluge": "Deluge",
    "nzbget": "NZBGet",
    "qbittorrent": "qBittorrent",
    "rtorrent": "rTorrent",
    "sabnzbd": "SABnzbd",
    "transmission": "Transmission",
}
"""The names of the download clients as their projects spell them, by ``kind``."""

UNITS: Final = ("kB", "MB", "GB", "TB", "PB")


def reason_text(reason: str) -> str:
    """Return the words for a reason; an unknown reason is its own words."""
    return REASONS.get(reason, reason.replace("_", " "))


def program_text(name: str) -> str:
    """Return a program's name as its project spells it; any other name is unchanged."""
    return PROGRAMS.get(name.casefold(), name)


def client_text(name: str, kind: str | None = None) -> str:
    """Return a client's name from the settings, with its program unless the name says it."""
    if kind is None or kind.casefold() in name.casefold():
        return program_text(name)
    return f"{name} ({program_text(kind)})"


def size_text(size: float) -> str:
    """Return bytes in decimal units, such as ``24.7 GB``."""
    if abs(size) < 1000:
        return f"{size:.0f} bytes"
    power = min(int(math.log10(abs(size))) // 3, len(UNITS))
    amount = size / 1000**power
    return f"{amount:.3g} {UNITS[power - 1]}" if abs(amount) < 999.5 else _whole(amount, power)


def _whole(amount: float, power: int) -> str:
    return f"{amount:.0f} {UNITS[power - 1]}"


def duration_text(seconds: float) -> str:
    """Return a duration with its two largest units, such as ``2 h 5 min``."""
    if abs(seconds) < 1:
        return f"{seconds * 1000:.0f} ms"
    if abs(seconds) < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if abs(minutes) < 60:
        return f"{minutes} min"
    if abs(minutes) < 24 * 60:
        return _two_units(minutes // 60, "h", minutes % 60, "min")
    hours = minutes // 60
    return _two_units(hours // 24, "d", hours % 24, "h")


def _two_units(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large} {large_unit} {small} {small_unit}" if small else f"{large} {large_unit}"

"""Remove passwords and keys from text before it is logged, stored or sent."""

import re
from typing import Final

_URL: Final = re.compile(r"\b([a-z][a-z0-9+.-]{0,30}://)([^\s'\"<>]+)", re.IGNORECASE)
_MAGNET: Final = re.compile(r"\bmagnet:\?[^\s'\"<>]+", re.IGNORECASE)
_WHO: Final = re.compile(r"(?<![^\s/'\"<>])[^\s/'\"<>][^\s/'\"<>:]*:[^\s'\"<>]*@")
"""A login before a host. It starts at the start of a word: elsewhere, a long text took minutes."""

_NAMED: Final = re.compile(
    r"\b((?:api_?|pass)key|passw(?:or)?d|r?token|secret|auth)(=|\": ?\"|': ?')[^\s&'\"<>]+",
    re.IGNORECASE,
)
_KEY: Final = re.compile(r"[^/]*:[^/]*|(?=[^/]*\d)[0-9A-Za-z_-]{16,}")
"""A path segment that is a secret: a name with a password, or the passkey of a tracker."""


def without_secrets(words: str) -> str:
    """Return text without secrets. Of URLs, keeps scheme, host and path, without the login."""
    words = _MAGNET.sub("magnet:?…", words)
    words = _URL.sub(lambda found: found[1] + _place(found[2]), words)
    words = _NAMED.sub(r"\1\2…", words)
    return _WHO.sub("…@", words)


def _place(rest: str) -> str:
    path, mark, _ = rest.partition("?")
    authority, slash, path = path.partition("/")
    if "@" in path and "@" not in authority:  # a password with a slash in it
        authority, path = rest.rpartition("@")[2].partition("/")[::2]
    host = authority.rpartition("@")[2]
    parts = ("…" if _KEY.fullmatch(part) else part for part in path.split("/"))
    return host + slash + "/".join(parts) + ("?…" if mark else "")

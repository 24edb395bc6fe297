"""Compare the secrets of a request with the configured token."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Final

TOKEN_HEADER: Final = "X-Mediabus-Token"  # noqa: S105 - the name of a header
"""For senders that can set a header but not ``Authorization``."""


def is_authorized(given: Iterable[str], token: str) -> bool:
    """Return whether one of the given secrets is the token.

    Digests are compared in constant time, so the duration shows neither content nor length.
    """
    expected = _digest(token)
    results = [hmac.compare_digest(_digest(secret), expected) for secret in given]
    return any(results)


def secrets_in(headers: Mapping[str, str]) -> list[str]:
    """Return the secrets in the headers of a request.

    These are a bearer token, the password of basic authentication, a bare ``Authorization``
    (Seerr sends its value unchanged), and ``X-Mediabus-Token``.
    """
    found = []
    if authorization := headers.get("Authorization"):
        scheme, _, rest = authorization.partition(" ")
        match scheme.lower():
            case "bearer":
                found.append(rest.strip())
            case "basic":
                found += _password(rest.strip())
            case _:
                found.append(authorization)
    if header := headers.get(TOKEN_HEADER):
        found.append(header)
    return found


def _password(encoded: str) -> list[str]:
    try:
        text = base64.b64decode(encoded, validate=True).decode(errors="replace")
    except (binascii.Error, ValueError):
        return []
    return [text.partition(":")[2]]


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="surrogateescape")).digest()

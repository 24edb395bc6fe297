"""Sign webhooks as Standard Webhooks 1.0 says. Pure.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

PREFIX: Final = "whsec_"
MIN_BYTES: Final = 24
MAX_BYTES: Final = 64
"""The length of a secret, in bytes."""


def checked(secret: str) -> str:
    """Return a usable secret: ``whsec_`` and base64 of 24 to 64 bytes. Raises ValueError."""
    key = _key(secret)
    if not MIN_BYTES <= len(key) <= MAX_BYTES:
        raise ValueError(
            f"a secret has {MIN_BYTES} to {MAX_BYTES} bytes, this one has {len(key)}: make one "
            "with `echo whsec_$(head -c 32 /dev/urandom | base64)`"
        )
    return secret


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("a secret is `whsec_` and base64") from None  # not to show it


def signed(secrets: Sequence[str], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of a webhook: its id, its time, and a signature for each secret."""
    headers = {"webhook-id": message_id, "webhook-timestamp": str(timestamp)}
    content = f"{message_id}.{timestamp}.".encode() + body
    signatures = [
        "v1," + base64.b64encode(hmac.digest(_key(secret), content, hashlib.sha256)).decode()
        for secret in secrets
    ]
    return {**headers, "webhook-signature": " ".join(signatures)} if signatures else headers

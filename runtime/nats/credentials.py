"""Authentication on NATS: credentials files, NKey seeds and trusted certificates.

nats-py reads key files again at each reconnect. A half-written file ends its reconnect loop for
good, and a file without a JWT makes it spin. So they are read here, and every problem with them is
an error that nats-py retries.
"""

import base64
import binascii
import re
import ssl
from collections.abc import Callable
from typing import Any, Final

from nats.errors import Error as NatsError

from mediabus.runtime.settings import NatsSettings, SettingsError
from mediabus.runtime.text_files import NotText, read_certificates, read_text

INBOX: Final = "_INBOX"

JWT: Final = "NATS USER JWT"
SEED: Final = "USER NKEY SEED"
KEY_ITSELF: Final = re.compile(r"\s*(?:S[A-Z2-7]{40,}\s*$|-----BEGIN)")
"""A key where the path of its file is expected: an error must not quote it."""


class UnusableKey(NatsError):
    """A key file cannot be used, perhaps only for a moment. The message names the file."""


def credentials(settings: NatsSettings) -> dict[str, Any]:
    """Return the authentication options of nats-py's ``connect``.

    Raises SettingsError, which names the setting.
    """
    options: dict[str, Any] = {}
    try:
        if settings.credentials:
            options |= _by_credentials(settings.credentials)
        elif settings.nkey_seed_file:
            options |= _by_seed(settings.nkey_seed_file)
    except UnusableKey as error:
        raise SettingsError(f"settings: {error}") from error
    if settings.tls_ca:
        options["tls"] = _trusting(settings.tls_ca)
    return options


def public_key_of(path: str) -> str:
    """Return the public key of the seed in a file. Raises SettingsError."""
    try:
        return _public_key(_seed_in(path))
    except UnusableKey as error:
        raise SettingsError(f"settings: {error}") from error


def _by_credentials(path: str) -> dict[str, Any]:
    _blocks_in(path)

    def jwt() -> bytes:
        return _blocks_in(path)[0]

    return {"user_jwt_cb": jwt, "signature_cb": _signing(lambda: _blocks_in(path)[1])}


def _by_seed(path: str) -> dict[str, Any]:
    public_key = _public_key(_seed_in(path))

    def seed() -> bytearray:
        found = _seed_in(path)
        if _public_key(found) != public_key:
            raise UnusableKey(
                f"nats.nkey_seed_file: the key in {path} changed since the start: restart mediabus"
            )
        return found

    # An inbox prefix per key, so that keys need no permission for each other's inboxes.
    return {
        "signature_cb": _signing(seed),
        "public_nkey": public_key,
        "inbox_prefix": f"{INBOX}.{public_key}",
    }


def _signing(seed: Callable[[], bytearray]) -> Callable[[str], bytes]:
    def sign(nonce: str) -> bytes:
        import nkeys  # noqa: PLC0415 - slow, and needed only with a key

        pair = nkeys.from_seed(seed())
        signed = base64.b64encode(pair.sign(nonce.encode()))
        pair.wipe()
        return signed

    return sign


def _blocks_in(path: str) -> tuple[bytes, bytearray]:
    """Return the first JWT and the first seed in a credentials file. Raises UnusableKey."""
    lines = _read("credentials", path).splitlines()
    jwt, seed = _block(lines, JWT), _block(lines, SEED)
    if jwt is None or seed is None:
        missing = JWT if jwt is None else SEED
        raise UnusableKey(
            f"nats.credentials: {path} has no block {missing!r}. Use a file that `nsc` wrote; for "
            "a seed alone, set nats.nkey_seed_file"
        )
    return jwt.encode(), _checked("credentials", path, seed)


def _block(lines: list[str], name: str) -> str | None:
    """Return the content of the first block with a name, such as ``NATS USER JWT``."""
    begins = (at for at, line in enumerate(lines) if line.strip().strip("-") == f"BEGIN {name}")
    for at in begins:
        for line in lines[at + 1 :]:
            text = line.strip()
            if text.startswith("--"):
                break
            if text:
                return text
    return None


def _seed_in(path: str) -> bytearray:
    return _checked("nkey_seed_file", path, _read("nkey_seed_file", path).strip())


def _checked(key: str, path: str, seed: str) -> bytearray:
    import nkeys  # noqa: PLC0415 - as above

    try:
        nkeys.from_seed(bytearray(seed.encode())).wipe()
    except (nkeys.NkeysError, binascii.Error, ValueError, IndexError):
        raise UnusableKey(f"nats.{key}: {path} holds no seed") from None  # the cause quotes it
    return bytearray(seed.encode())


def _public_key(seed: bytearray) -> str:
    import nkeys  # noqa: PLC0415 - as above

    pair = nkeys.from_seed(seed)
    public_key: str = pair.public_key.decode()
    pair.wipe()
    return public_key


def _read(key: str, path: str) -> str:
    if KEY_ITSELF.match(path):
        raise UnusableKey(f"nats.{key}: it takes the path of a file, not the key itself")
    try:
        text = read_text(path)
    except OSError as error:
        raise UnusableKey(f"nats.{key}: cannot read {path}: {error.strerror}") from error
    except NotText as error:
        raise UnusableKey(f"nats.{key}: cannot read {path}: {error}") from error
    if not text.isascii():
        raise UnusableKey(f"nats.{key}: {path} holds no seed")
    if not text.strip():
        raise UnusableKey(f"nats.{key}: {path} is empty")
    return text


def _trusting(path: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cadata=read_certificates(path))
    except (OSError, ValueError) as error:  # NotText is one, and SSLError is an OSError
        raise SettingsError(f"settings: nats.tls_ca: cannot use {path}: {error}") from error

"""How a connection to NATS shows who it is, and makes sure whom it speaks to."""

import ssl
from pathlib import Path
from typing import Any, Final

from service.runtime.settings import NatsSettings, SettingsError

INBOX: Final = "_INBOX"


def credentials(settings: NatsSettings) -> dict[str, Any]:
    """The options of nats-py's ``connect``. Raises SettingsError naming the key."""
    options: dict[str, Any] = {
        "user": settings.user,
        "password": settings.password,
        "user_credentials": settings.credentials,
    }
    if settings.credentials:
        _read("credentials", settings.credentials)  # nats-py does not say that it cannot
    if settings.nkey_seed_file:
        public_key = public_key_of(settings.nkey_seed_file)
        # An inbox of its own, so that nobody else needs to be let into it.
        options |= {
            "nkeys_seed": settings.nkey_seed_file,
            "inbox_prefix": f"{INBOX}.{public_key}",
        }
    if settings.tls_ca:
        options["tls"] = _trusting(settings.tls_ca)
    return options


def public_key_of(path: str) -> str:
    """The public key of the user whose seed a file holds. Raises SettingsError."""
    import nkeys  # noqa: PLC0415 - only who has a key waits for it

    try:
        seed = bytearray(_read("nkey_seed_file", path).strip())
        pair = nkeys.from_seed(seed)
        public_key: str = pair.public_key.decode()
        pair.wipe()
    except (nkeys.NkeysError, ValueError) as error:
        raise SettingsError(f"settings: nats.nkey_seed_file: {path} holds no seed") from error
    return public_key


def _read(key: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        said = f"settings: nats.{key}: cannot read {path}: {error.strerror}"
        raise SettingsError(said) from error


def _trusting(path: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"settings: nats.tls_ca: cannot use {path}: {error}") from error

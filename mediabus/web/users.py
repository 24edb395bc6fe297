"""Who may sign in: passwords, and the sessions of browsers.

A session is a signed cookie, so every process that has the same password file accepts it.
"""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec

from mediabus.runtime.private_files import write_private
from mediabus.runtime.settings import SettingsError

Role = Literal["admin", "viewer"]

ADMIN: Final = "admin"
"""The user that always exists."""

SCRYPT: Final = {"n": 16_384, "r": 8, "p": 1}
"""The cost of a guess: 16 MiB and about 50 ms."""


class Visitor(NamedTuple):
    """Who sent a request."""

    name: str
    role: Role

    @property
    def can_change(self) -> bool:
        """Whether this user may do more than look."""
        return self.role == "admin"


class _Stored(msgspec.Struct):
    """The content of the password file."""

    secret: str
    salt: str
    password: str | None = None
    """The scrypt hash of the generated password of ``admin``."""
    signed_out: dict[str, int] = {}
    """For each user, the time in nanoseconds before which all sessions have ended."""


class _User(NamedTuple):
    role: Role
    hashed: bytes
    """Also part of what signs a session, which ends when the password changes."""


class Users:
    """The users and their sessions. ``generated`` is the new password, if one was made."""

    def __init__(
        self,
        file: Path,
        admin_password: str | None,
        others: dict[str, tuple[str | None, Role]],
        session_seconds: float,
    ) -> None:
        self._file = file
        self._seconds = session_seconds
        self.generated: str | None = None
        self._stored = self._load(needs_password=admin_password is None)
        self._read_at = file.stat().st_mtime_ns
        self._salt = bytes.fromhex(self._stored.salt)
        hashed = (
            self._hash(admin_password)
            if admin_password is not None
            else bytes.fromhex(self._stored.password or "")
        )
        self._users = {ADMIN: _User("admin", hashed)}
        for name, (password, role) in others.items():
            if password is not None:
                self._users[name] = _User(role, self._hash(password))

    def _load(self, *, needs_password: bool) -> _Stored:
        try:
            stored = self._read()
        except FileNotFoundError:
            stored = _Stored(secrets.token_hex(32), secrets.token_hex(16))
            self._write(stored)
        if needs_password and stored.password is None:
            self.generated = "-".join(secrets.token_hex(2) for _ in range(5))
            hashed = hash_of(self.generated, bytes.fromhex(stored.salt))
            stored.password = hashed.hex()
            self._write(stored)
        return stored

    def _read(self) -> _Stored:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=_Stored)
        except FileNotFoundError:
            raise
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"{self._file} is unusable ({error}): remove it, and the next start generates "
                "another password"
            ) from error

    def _write(self, stored: _Stored) -> None:
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(self._file, msgspec.json.encode(stored).decode())
        except OSError as error:
            raise SettingsError(
                f"cannot write {self._file}: {error.strerror}. Set data_dir to a folder that this "
                "process may write to"
            ) from error

    def _hash(self, password: str) -> bytes:
        return hash_of(password, self._salt)

    def check(self, name: str, password: str) -> bool:
        """Return whether a password is right. Takes as long for a name that does not exist."""
        given = self._hash(password)
        user = self._users.get(name)
        return hmac.compare_digest(given, user.hashed if user else bytes(32)) and user is not None

    def sign_in(self, name: str) -> str:
        """Return the cookie of a new session."""
        now = time.time_ns()
        expires = now + int(self._seconds * 1e9)
        body = json.dumps([name, now, expires]).encode()
        signed = body + self._signature(body, self._users[name])
        return base64.urlsafe_b64encode(signed).decode()

    def visitor(self, cookie: str) -> Visitor | None:
        """Return the user of a session; None if it is invalid or has ended."""
        try:
            signed = base64.b64decode(cookie.encode(), altchars=b"-_", validate=True)
            body, signature = signed[:-32], signed[-32:]
            name, began, expires = json.loads(body)
            user = self._users[name]
        except (ValueError, KeyError, TypeError, binascii.Error, RecursionError):
            return None
        if not hmac.compare_digest(signature, self._signature(body, user)):
            return None
        self._refresh()
        is_signed_out = began <= self._stored.signed_out.get(name, 0)
        if is_signed_out or time.time_ns() >= expires:
            return None
        return Visitor(name, user.role)

    def sign_out_everywhere(self, name: str) -> None:
        """End all sessions of a user."""
        self._refresh()
        self._stored.signed_out[name] = time.time_ns()
        self._write(self._stored)
        self._read_at = self._file.stat().st_mtime_ns

    def _signature(self, body: bytes, user: _User) -> bytes:
        key = bytes.fromhex(self._stored.secret) + user.hashed
        return hmac.digest(key, body, "sha256")

    def _refresh(self) -> None:
        """Read the file again if another process has changed it."""
        try:
            changed_at = self._file.stat().st_mtime_ns
        except OSError:
            return
        if changed_at != self._read_at:
            self._stored.signed_out = self._read().signed_out
            self._read_at = changed_at


def hash_of(password: str, salt: bytes) -> bytes:
    """Return the scrypt hash of a password."""
    return hashlib.scrypt(password.encode(), salt=salt, dklen=32, **SCRYPT)

"""Roles for PostgreSQL: the statements that make them, and a password for each."""

import base64
import hashlib
import hmac
import secrets
from typing import Final

ROLES: Final = {
    "operations": "what `mediabus service` and `mediabus monitor` are",
    "persister": "what `mediabus persist` is",
    "reader": "for people and dashboards: it may read, and nothing else",
}
"""By the second half of each group's name. Who may do what: ``grants.sql``."""

ITERATIONS: Final = 4096

HEAD: Final = """\
-- Made by `mediabus secure`. Run it once as an administrator of the cluster, before
-- `mediabus migrate`, which lets these roles do their work: psql --file=roles.sql "$URL"
-- The passwords themselves are in the files beside this one.
"""
GROUP: Final = """
-- mediabus_{name}: {what}
CREATE ROLE mediabus_{name} NOLOGIN;
CREATE ROLE mediabus_{name}_login LOGIN IN ROLE mediabus_{name}
    PASSWORD '{verifier}';
"""


def roles_with_passwords() -> tuple[str, dict[str, str]]:
    """The SQL, in which no password can be read, and the password of each role's login."""
    passwords = {name: secrets.token_hex(24) for name in ROLES}
    groups = (
        GROUP.format(name=name, what=what, verifier=scram_verifier(passwords[name]))
        for name, what in ROLES.items()
    )
    return HEAD + "".join(groups), passwords


def scram_verifier(password: str) -> str:
    """What PostgreSQL keeps of a password of ASCII (RFC 5803): it cannot be read back."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (
        base64.b64encode(part).decode() for part in (salt, stored_key, server_key)
    )
    return f"SCRAM-SHA-256${ITERATIONS}:{salt64}${stored64}:{server64}"

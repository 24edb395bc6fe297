"""Parse `database.url`, in the dialects that providers use, into arguments of asyncpg."""

import logging
import re
import ssl
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import asyncpg

from mediabus.runtime.redact import without_secrets
from mediabus.runtime.settings import SettingsError

log: Final = logging.getLogger("mediabus.database")

EXAMPLE: Final = "postgresql://user@host:5432/name"
ENCODE: Final = "percent-encode every character of the password except letters and digits"
HOST: Final = re.compile(r"(?:\[[^\[\]]+\]|[^:\[\]@]+)(?::([0-9]{1,5}))?")
"""A host with an optional port, as asyncpg parses it."""

PASSED_ON: Final = frozenset(
    {
        *("host", "port", "dbname", "database", "user", "password", "passfile"),
        *("service", "target_session_attrs", "krbsrvname", "gsslib"),
        *("sslmode", "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl"),
        *("sslnegotiation", "ssl_min_protocol_version", "ssl_max_protocol_version"),
    }
)
"""Parameters of libpq that asyncpg understands."""

FOR_THE_SERVER: Final = frozenset(
    {
        *("application_name", "options", "search_path", "role"),
        *("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"),
    }
)
"""Parameters that are sent to the server unchanged."""

DROPPED: Final = {
    "channel_binding": "asyncpg has no channel binding: use sslmode=verify-full",
    **dict.fromkeys(
        (
            *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
            *("tcp_user_timeout", "load_balance_hosts", "fallback_application_name"),
            *("sslcompression", "sslsni", "sslcertmode", "gssencmode", "gssdelegation"),
            *("client_encoding", "min_protocol_version", "max_protocol_version"),
        ),
        "mediabus notices a dead connection by its own timeouts",
    ),
    **dict.fromkeys(
        (
            *("pgbouncer", "pool_mode", "supa", "schema", "connection_limit", "pool_timeout"),
            *("prepared_statement_cache_size", "prepareThreshold", "uselibpqcompat"),
            *("socket_timeout", "pool_size", "max_overflow"),
        ),
        "it is for another library",
    ),
}
"""Parameters that are ignored, and the reason that is logged."""

CHOICES: Final = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "target_session_attrs": (
        *("any", "primary", "standby", "prefer-standby", "read-write", "read-only"),
    ),
}
"""The values of parameters that asyncpg would check only when it connects."""

FILES: Final = ("sslcert", "sslkey", "sslrootcert", "sslcrl", "passfile")

SERVER_SETTINGS: Final = {"application_name": "mediabus", "standard_conforming_strings": "on"}
"""Sent with the login. PgBouncer accepts these, too."""

CONNECT_WITHIN: Final = 5.0
"""Seconds for one attempt to connect, unless ``connect_timeout`` is given."""


def connect_arguments(url: str, password: str | None) -> dict[str, Any]:
    """Return the arguments of asyncpg.connect for a URL, or for libpq's ``host=… dbname=…``.

    Raises SettingsError, whose message contains no secret.
    """
    parts, query = _split(_as_url(url.strip()))
    arguments: dict[str, Any] = {"password": password, "timeout": CONNECT_WITHIN}
    if "ssl" in query:  # the name that asyncpg and SQLAlchemy use
        query.setdefault("sslmode", _sslmode(query.pop("ssl")))
    if "connect_timeout" in query:
        arguments["timeout"] = _seconds(query.pop("connect_timeout"))
    if "statement_cache_size" in query:
        arguments["statement_cache_size"] = _count(query.pop("statement_cache_size"))
    _refuse_unknown(query)
    kept = {name: value for name, value in query.items() if name in PASSED_ON}
    for_the_server = {name: value for name, value in query.items() if name in FOR_THE_SERVER}
    arguments["server_settings"] = {**SERVER_SETTINGS, **for_the_server}
    if kept.get("sslrootcert") == "system":  # libpq 16: verify-full by the system's authorities
        kept.pop("sslrootcert")
        kept.pop("sslmode", None)
        arguments["ssl"] = ssl.create_default_context()
    _refuse_other_choices(kept)
    _require_files(kept)
    if password is None and "passfile" in kept:
        arguments["password"] = _password_in(Path(kept["passfile"]), _user(parts, kept))
    arguments["dsn"] = urllib.parse.urlunsplit(
        parts._replace(query=urllib.parse.urlencode(kept, quote_via=urllib.parse.quote))
    )
    return arguments


def refused(error: Exception) -> SettingsError:
    """Return the error to raise if asyncpg rejects the arguments.

    It quotes only asyncpg's own messages, without the values in them. Python's ValueError quotes
    the text that is not a number, which can be part of a password.
    """
    if isinstance(error, asyncpg.ClientConfigurationError):
        return unusable(str(error).partition(", got ")[0])
    return unusable(f"asyncpg cannot read it: check the host and the port, and {ENCODE}")


def unusable(reason: str) -> SettingsError:
    """Return the error for an unusable URL. ``reason`` must not quote a value of the URL."""
    detail = " ".join(without_secrets(reason).split())
    return SettingsError(
        f"settings: database.url, or events_url, is not a PostgreSQL URL such as "
        f"{EXAMPLE} ({detail})"
    )


def _as_url(text: str) -> str:
    """Convert libpq's keywords and values, or a URL with a driver, to a URL for asyncpg."""
    if re.match(r"\w+\s*=", text):
        found = re.findall(r"(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s\\]|\\.)*)", text)
        values = {name: re.sub(r"\\(.)", r"\1", value.strip("'")) for name, value in found}
        return f"postgresql://?{urllib.parse.urlencode(values)}"
    return re.sub(r"^(postgres(?:ql)?)\+\w+://", r"\1://", text)


def _split(url: str) -> tuple[urllib.parse.SplitResult, dict[str, str]]:
    scheme, mark, _ = url.partition("://")
    if not mark or scheme not in {"postgresql", "postgres"}:
        raise unusable("it must begin with postgresql://")
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:  # its message quotes the password
        raise unusable(f"its host lacks a closing bracket, or is not ASCII; {ENCODE}") from None
    parts = parts._replace(netloc=_netloc(parts))
    try:
        given = urllib.parse.parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)
    except ValueError:
        if parts.query:
            raise unusable("the part after the question mark must be name=value&…") from None
        given = []
    query = dict(given)
    if "port" in query and not all(map(_is_port, query["port"].split(","))):
        raise unusable("port takes a number from 1 to 65535")
    return parts, query


def _netloc(parts: urllib.parse.SplitResult) -> str:
    """Check the login and the hosts here, because asyncpg's errors would quote them.

    Returns them with each @ in the password percent-encoded: asyncpg would take the text after it
    for a host, and look it up in DNS.
    """
    login, at, hosts = parts.netloc.rpartition("@")
    if parts.fragment or (not at and "@" in parts.path):
        raise unusable(f"a password, a name or a path has a special character: {ENCODE}")
    for host in hosts.split(",") if hosts else []:
        found = HOST.fullmatch(host)
        if not found or not _is_port(found[1] or "5432"):
            raise unusable(f"a port must be a number from 1 to 65535; {ENCODE}")
    return login.replace("@", "%40") + at + hosts


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 1 << 16


def _refuse_unknown(query: Mapping[str, str]) -> None:
    for name in query:
        if name in DROPPED:
            log.info("database.url: ignored %s: %s", name, DROPPED[name])
        elif name not in PASSED_ON | FOR_THE_SERVER:
            raise SettingsError(
                f"settings: database.url: there is no parameter {name[:64]!r}: remove it, or give "
                "a setting of the server as options=-c%20name%3Dvalue"
            )


def _refuse_other_choices(query: Mapping[str, str]) -> None:
    for name, values in CHOICES.items():
        if query.get(name, values[0]) not in values:
            raise unusable(f"{name} must be one of {', '.join(values)}")


def _sslmode(text: str) -> str:
    return {"true": "require", "1": "require", "false": "disable", "0": "disable"}.get(text, text)


def _seconds(text: str) -> float:
    try:
        seconds = int(text)
    except ValueError:
        raise unusable("connect_timeout takes a whole number of seconds") from None
    return float(seconds) if seconds > 0 else 60.0  # 0 or less means no limit to libpq


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 6:
        raise unusable("statement_cache_size takes a whole number, such as 0 or 100")
    return int(text)


def _require_files(query: Mapping[str, str]) -> None:
    for name in FILES:
        path = query.get(name)
        if not path:
            continue
        try:
            with Path(path).open("rb"):
                pass
        except OSError as error:
            raise SettingsError(
                f"settings: database.url: cannot read {name} {path}: {error.strerror}"
            ) from error


def _user(parts: urllib.parse.SplitResult, query: Mapping[str, str]) -> str | None:
    return urllib.parse.unquote(parts.username or "") or query.get("user")


def _password_in(passfile: Path, user: str | None) -> str | None:
    """Return the password from a passfile whose line matches every host, or None.

    `mediabus up` writes such a file. Without this, asyncpg would prefer PGPASSWORD. With None,
    asyncpg reads the file itself.
    """
    for line in passfile.read_text(encoding="utf-8", errors="replace").splitlines():
        places, _, rest = line.partition(":*:*:")
        name, _, password = rest.partition(":")
        if places == "*" and name in {user, "*"} and password:
            return re.sub(r"\\(.)", r"\1", password)
    return None

"""Parse ``nats.url``: the servers and the login in it."""

from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from mediabus.runtime.settings import NatsSettings, SettingsError

SCHEMES: Final = {"nats", "tls", "ws", "wss"}
WEB_SOCKETS: Final = {"ws", "wss"}


class Login(NamedTuple):
    """A user and a password. Without a password, ``user`` is a token."""

    user: str
    password: str | None


class Servers(NamedTuple):
    """The URLs without logins, the login options of ``connect``, and whether TLS is required."""

    urls: list[str]
    options: dict[str, Any]
    needs_tls: bool


def servers_of(url: str, settings: NatsSettings) -> Servers:
    """Parse one URL, or several separated by commas.

    Percent-decodes the login, which nats-py does not, and returns it as options: nats-py would send
    a login in a URL only to that server, not to servers that it discovers from the cluster.

    Raises SettingsError. It quotes nothing, since any part may be a password.
    """
    parts = [_parts(part.strip()) for part in url.split(",") if part.strip()]
    if not parts or len({part.scheme in WEB_SOCKETS for part in parts}) > 1:
        raise _unusable()
    logins = (_login(part) for part in parts)
    login = next(filter(None, logins), None)
    return Servers(
        [_without_login(part) for part in parts],
        _options(login, settings),
        needs_tls=any(part.scheme == "tls" for part in parts),
    )


def _parts(url: str) -> SplitResult:
    try:
        part = urlsplit(url if "://" in url else f"nats://{url}")
        is_usable = part.scheme in SCHEMES and part.hostname and (part.port or part.port is None)
        if "@" in part.path + part.query + part.fragment:  # the end of a password with a / in it
            is_usable = False
    except ValueError:
        is_usable = False
    if not is_usable:
        raise _unusable()
    return part


def _unusable() -> SettingsError:
    return SettingsError(
        "settings: nats.url is not a URL of NATS servers such as nats://host:4222. Percent-encode "
        "special characters in a password"
    )


def _without_login(part: SplitResult) -> str:
    return f"{part.scheme}://{part.netloc.rpartition('@')[2]}{part.path}"


def _login(part: SplitResult) -> Login | None:
    if not part.username and not part.password:
        return None
    password = None if part.password is None else unquote(part.password)
    return Login(unquote(part.username or ""), password)


def _options(login: Login | None, settings: NatsSettings) -> dict[str, Any]:
    """Return the login of the settings, or else that of the URL with the password setting."""
    if settings.user:
        return {"user": settings.user, "password": settings.password or ""}
    if login is None:
        return {}
    password = settings.password if login.password is None else login.password
    if password is None:
        return {"token": login.user}
    return {"user": login.user, "password": password}


def without_login(url: str) -> str:
    """Return a server's URL without the login, for output."""
    scheme, separator, rest = url.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"

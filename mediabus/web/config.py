"""The settings of the pages, parsed once."""

import ipaddress
from pathlib import Path

import msgspec

from mediabus.runtime.settings import Settings, SettingsError
from mediabus.runtime.text_files import expanded
from mediabus.service.clients.sessions import client_settings
from mediabus.web.users import ADMIN, Role

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PASSWORD_FILE = "web.json"  # noqa: S105 - the name of a file
"""In the data directory: the generated password, and the key that signs sessions."""


class WebConfig(msgspec.Struct, frozen=True):
    """Who may see the pages, and where they are."""

    base: str
    """The path prefix, without a slash at its end."""

    needs_login: bool
    password: str | None
    users: dict[str, tuple[str | None, Role]]
    """The password and role of each user other than ``admin``."""

    proxies: tuple[Network, ...]
    proxy_role: Role
    session_seconds: float
    password_file: Path
    clients: tuple[str, ...]
    """The names of the enabled download clients."""


def config_of(settings: Settings) -> WebConfig:
    """Parse the settings. Raises SettingsError."""
    web = settings.web
    needs_login = web.auth != "none"
    if not needs_login and not is_loopback(settings.http.host):
        raise SettingsError(
            f'web.auth = "none" lets everybody in who reaches {settings.http.host}. '
            'Set http.host = "127.0.0.1", or web.auth = "password"'
        )
    users: dict[str, tuple[str | None, Role]] = {}
    for user in web.users:
        if user.name in users or user.name == ADMIN:
            raise SettingsError(
                f"web.users: there are two users {user.name!r}. The password of {ADMIN} is "
                "web.password"
            )
        users[user.name] = (user.password, user.role)
    return WebConfig(
        base=web.base_path.rstrip("/"),
        needs_login=needs_login,
        password=web.password,
        users=users,
        proxies=tuple(_network(text) for text in web.trusted_proxies),
        proxy_role=web.proxy_role,
        session_seconds=web.session_days * 86_400,
        password_file=Path(expanded(settings.data_dir)) / PASSWORD_FILE,
        clients=tuple(client.name for client in client_settings(settings) if client.enabled),
    )


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise SettingsError(
            f"web.trusted_proxies: {text!r} is neither an address nor a network such as "
            "172.16.0.0/12"
        ) from error

"""Decide who sent a request, and whether a browser sent it from these pages."""

import ipaddress
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from mediabus.web.config import WebConfig, is_loopback
from mediabus.web.users import ADMIN, Users, Visitor

COOKIE: Final = "mediabus_session"
MAX_NAME: Final = 64
"""Characters of a user's name."""


class Access:
    """Finds the visitor of a request: by its session, its proxy, or without a login."""

    def __init__(self, config: WebConfig, users: Users) -> None:
        self._config = config
        self._users = users

    def visitor(self, request: web.BaseRequest) -> Visitor | None:
        """Return who sent a request; None if they must sign in."""
        if not self._config.needs_login:
            return Visitor(ADMIN, "admin")
        if (named := self._named_by_proxy(request)) is not None:
            return named
        cookie = request.cookies.get(COOKIE)
        return self._users.visitor(cookie) if cookie else None

    def _named_by_proxy(self, request: web.BaseRequest) -> Visitor | None:
        names = request.headers.getall("Remote-User", [])
        if len(names) != 1 or not self._is_from_proxy(request):
            return None
        name = names[0].strip()
        if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
            return None
        _, role = self._config.users.get(name, (None, self._config.proxy_role))
        return Visitor(name, role)

    def _is_from_proxy(self, request: web.BaseRequest) -> bool:
        return self._is_proxy(request.remote or "")

    def _is_proxy(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        mapped = getattr(parsed, "ipv4_mapped", None) or parsed
        return any(mapped in network for network in self._config.proxies)

    def address(self, request: web.BaseRequest) -> str:
        """Return the address of the browser: the last one that is not a trusted proxy."""
        address = request.remote or ""
        forwarded = ",".join(request.headers.getall("X-Forwarded-For", []))
        for before in reversed(forwarded.split(",") if forwarded else []):
            if not self._is_proxy(address):
                break
            address = before.strip()
        return address[:100]

    def is_encrypted(self, request: web.BaseRequest) -> bool:
        """Return whether the browser uses HTTPS."""
        if self._is_from_proxy(request) and request.headers.get("X-Forwarded-Proto") == "https":
            return True
        return request.headers.get("Origin", "").startswith("https://")

    def is_host_allowed(self, request: web.BaseRequest) -> bool:
        """Return whether a request without a login names this machine as its host.

        Otherwise any site could read the pages through a name that it points here.
        """
        if self._config.needs_login:
            return True
        return is_loopback(urlsplit(f"//{request.host}").hostname or "")

    def is_same_origin(self, request: web.BaseRequest) -> bool:
        """Return whether these pages sent a form. Browsers send one of the two headers."""
        site = request.headers.get("Sec-Fetch-Site")
        if site is not None:
            return site == "same-origin"
        hosts = {request.host}
        if self._is_from_proxy(request):
            hosts.add(request.headers.get("X-Forwarded-Host", request.host))
        return urlsplit(request.headers.get("Origin", "")).netloc in hosts

"""Call qBittorrent's Web API, logging in when it asks for a login."""

import asyncio
from collections.abc import Callable
from typing import Final

import aiohttp
from yarl import URL

from mediabus.service.clients.http import Answer, Http, LoginBackoff
from mediabus.service.clients.port import ClientRefused, ClientUnavailable

MAY_BE_MISSING: Final = ("torrents/stop", "torrents/start", "torrents/trackers")
"""Paths for which 404 is a regular answer: the first two before 5.0, the last for a torrent that
was removed."""


HOST_REFUSED: Final = (
    "qBittorrent, or a proxy in front of it, refuses requests before login (HTTP 401)."
    " In its options under Web UI, add {host!r} to the server domains. A proxy must pass on the"
    " Host header, and no Origin or Referer of another site."
)
"""qBittorrent validates the Host header and checks for cross-site requests before it looks at the
session, and answers 401. A request without a session is answered 403."""


class Rpc:
    """Calls with a login on demand. ``url`` is the URL of the settings."""

    def __init__(self, http: Http, url: URL, username: str, password: str) -> None:
        self._http = http
        self._url = url
        self._username = username
        self._password = password
        self._backoff = LoginBackoff()
        self._login_lock = asyncio.Lock()
        self._logins = 0

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        form: Callable[[], aiohttp.FormData] | None = None,
    ) -> Answer:
        """Send one request, logging in first if the client asks for it.

        ``form`` is called for each attempt: a form can be sent only once.
        """
        if self._url.user is not None:
            self._backoff.check()
        for _ in range(2):
            logins = self._logins
            answer = await self._http.call(
                method,
                f"api/v2/{path}",
                repeatable=form is None,
                params=params,
                data=form() if form else None,
            )
            if answer.status == 401:
                raise self._refusal_before_login(answer)
            if answer.status != 403:
                return self._accepted(path, answer)
            await self._log_in(unless_since=logins)
        raise ClientUnavailable(
            "authentication",
            "qBittorrent accepts the password but not the session cookie, for example because it"
            f" sets a secure cookie and `url` is http: {answer.text}",
        )

    def _refusal_before_login(self, answer: Answer) -> ClientUnavailable:
        """Explain a 401 to a request that is not a login.

        Only a password that was sent with the request counts as a refused login.
        """
        if self._url.user is not None:
            message = "qBittorrent, or a proxy in front of it, refused the login in `url`"
            return self._backoff.refused(ClientUnavailable("authentication", message))
        if "WWW-Authenticate" in answer.headers:
            message = "A proxy in front of qBittorrent asks for a login. Put it into `url`."
            return ClientUnavailable("authentication", message)
        return ClientUnavailable("protocol", HOST_REFUSED.format(host=self._url.host))

    def _accepted(self, path: str, answer: Answer) -> Answer:
        if answer.status in (400, 409, 415):  # 415: not a torrent; 409: none added (5.2)
            raise ClientRefused(
                f"qBittorrent refused the request (HTTP {answer.status}): {answer.text}"
            )
        if answer.status == 404 and path not in MAY_BE_MISSING:
            self._http.raise_protocol_error("HTTP 404")
        return answer

    async def _log_in(self, *, unless_since: int) -> None:
        """Log in, unless another call has done so since ``unless_since`` logins."""
        async with self._login_lock:
            if self._logins != unless_since:
                return
            self._backoff.check()
            form = {"username": self._username, "password": self._password}
            if not any(form.values()):
                raise ClientUnavailable(
                    "authentication", "qBittorrent asks for a login. Set `username` and `password`."
                )
            answer = await self._http.call("POST", "api/v2/auth/login", data=form)
            if answer.status == 204 or (answer.status == 200 and answer.text == "Ok."):
                self._backoff.accepted()
                self._logins += 1
            elif answer.status == 403:
                raise self._backoff.refused(_refused_login(answer))
            elif answer.status in (200, 401):
                raise self._backoff.refused(
                    ClientUnavailable(
                        "authentication",
                        "qBittorrent refused username or password."
                        " Check `username` and `password`.",
                    )
                )
            else:
                self._http.raise_protocol_error(f"HTTP {answer.status} to a login")


def _refused_login(answer: Answer) -> ClientUnavailable:
    """Explain a 403 to a login.

    qBittorrent sends it only to an address that it has banned, with a plain text in its own
    language. Markup comes from a proxy.
    """
    if answer.body.lstrip().startswith(b"<"):
        return ClientUnavailable(
            "authentication", f"the proxy in front of qBittorrent refuses logins: {answer.text}"
        )
    return ClientUnavailable("banned", answer.text)

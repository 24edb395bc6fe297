"""Calls to qBittorrent's Web API, and the session that they need."""

import asyncio
from collections.abc import Callable
from typing import Final

import aiohttp

from service.clients.http import Answer, Http, Patience
from service.clients.port import ClientRefused, ClientUnavailable

MAY_BE_MISSING: Final = ("torrents/stop", "torrents/start", "torrents/trackers")
"""Where 404 is an answer: the first two before 5.0, the last for a torrent that is gone."""


class Rpc:
    """Calls, after logging in where that is asked for."""

    def __init__(self, http: Http, username: str, password: str) -> None:
        self._http = http
        self._username = username
        self._password = password
        self._patience = Patience()
        self._door = asyncio.Lock()
        self._logins = 0

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        form: Callable[[], aiohttp.FormData] | None = None,
    ) -> Answer:
        """One call, after logging in if need be. A form is made anew for each try."""
        for _ in range(2):
            logins = self._logins
            answer = await self._http.call(
                method,
                f"api/v2/{path}",
                repeatable=form is None,
                params=params,
                data=form() if form else None,
            )
            if answer.status not in (401, 403):
                return self._accepted(path, answer)
            await self._log_in(unless_since=logins)
        raise ClientUnavailable(
            "authentication", f"qBittorrent takes the password but not the session: {answer.words}"
        )

    def _accepted(self, path: str, answer: Answer) -> Answer:
        if answer.status in (400, 409, 415):  # 415: not a torrent; 409: none added (5.2)
            raise ClientRefused(f"qBittorrent says no (HTTP {answer.status}): {answer.words}")
        if answer.status == 404 and path not in MAY_BE_MISSING:
            self._http.misunderstood("HTTP 404; is the path in url right?")
        return answer

    async def _log_in(self, *, unless_since: int) -> None:
        """A new cookie, unless another call has fetched one since ``unless_since`` logins."""
        async with self._door:
            if self._logins != unless_since:
                return
            self._patience.check()
            form = {"username": self._username, "password": self._password}
            if not any(form.values()):
                raise ClientUnavailable(
                    "authentication", "qBittorrent asks for a password; set one"
                )
            answer = await self._http.call("POST", "api/v2/auth/login", data=form)
            if answer.status == 204 or (answer.status == 200 and answer.words == "Ok."):
                self._patience.accepted()
                self._logins += 1
            elif answer.status == 403:
                raise self._patience.refused(ClientUnavailable("banned", answer.words))
            elif answer.status in (200, 401):
                raise self._patience.refused(
                    ClientUnavailable("authentication", "qBittorrent refused username or password")
                )
            else:
                self._http.misunderstood(f"HTTP {answer.status} to a login")

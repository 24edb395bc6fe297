"""The RPC of Transmission: one call, its session id, and what a refused login means."""

import asyncio
import time
from typing import Final, TypeVar

import msgspec
from yarl import URL

from mediabus.service.clients.http import Answer, Http, LoginBackoff, base_url
from mediabus.service.clients.port import ClientRefused, ClientUnavailable
from mediabus.service.clients.transmission.states import NAMES, Torrent

T = TypeVar("T")

SETTLING: Final = 0.5
"""Seconds after a start in which an empty answer is requested again. 3.00 lists no torrents for 60
to 200 ms, until it has loaded them."""

SESSION_ID: Final = "X-Transmission-Session-Id"


class Torrents(msgspec.Struct, frozen=True):
    """The arguments of an answer to torrent-get. ``removed`` has numeric ids of this run."""

    torrents: list[Torrent]
    removed: list[int] = []


class Listed(msgspec.Struct, frozen=True, rename="camel"):
    """A torrent's name and hash, as in answers to torrent-add."""

    hash_string: str
    name: str


class Added(
    msgspec.Struct, frozen=True, rename={"added": "torrent-added", "present": "torrent-duplicate"}
):
    """The arguments of an answer to torrent-add: one of the two is set."""

    added: Listed | None = None
    present: Listed | None = None


class ThisRun(msgspec.Struct, frozen=True, rename="camel"):
    """The statistics of this run that are used here."""

    seconds_active: int


class Stats(msgspec.Struct, frozen=True, rename="kebab"):
    """The fields of session-stats that are used here."""

    current_stats: ThisRun


class Session(msgspec.Struct, frozen=True):
    """The fields of session-get that are used here."""

    version: str


class Reply(msgspec.Struct, frozen=True):
    """The frame of every answer. ``result`` is ``success`` or an error message."""

    result: str
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class CallRefused(ClientRefused):
    """Transmission answered a call with an error."""


def rpc_url(text: str) -> URL:
    """Return the URL of the RPC: ``/transmission/rpc`` below a URL that does not name it."""
    url = base_url(text)
    if url.path.endswith("/rpc"):
        return url
    url = url.with_path(url.path.removesuffix("/web"))
    return url / "rpc" if url.path.endswith("/transmission") else url / "transmission" / "rpc"


class TransmissionRpc:
    """Calls of one Transmission."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._backoff = LoginBackoff()
        self.session_id = ""
        self._met = -SETTLING  # when that session id first appeared

    async def torrents(self, **which: object) -> Torrents:
        """Return torrents, after a Transmission that has just started has loaded them."""
        answer = await self.call(Torrents, "torrent-get", fields=NAMES, **which)
        settled = self._met + SETTLING
        if answer.torrents or time.monotonic() > settled:
            return answer
        await asyncio.sleep(settled - time.monotonic())
        return await self.call(Torrents, "torrent-get", fields=NAMES, **which)

    async def call(self, kind: type[T], method: str, **arguments: object) -> T:
        """Send one call and return the arguments of its answer.

        Raises:
            CallRefused: the answer is an error.
        """
        self._backoff.check()
        body = msgspec.json.encode({"method": method, "arguments": arguments})
        for _ in range(2):
            answer = await self._http.call(
                "POST",
                "",
                repeatable=method != "torrent-add",
                data=body,
                headers={SESSION_ID: self.session_id},
            )
            if answer.status != 409:
                break
            # CSRF protection: a new session id at the first call, after a restart, and every hour.
            self.session_id = answer.headers.get(SESSION_ID, "")
            self._met = time.monotonic()
        self._check_login(answer)
        reply = self._http.decode(answer, Reply)
        if reply.result != "success":
            raise CallRefused(f"Transmission refused: {reply.result!r}")
        return self._http.decode(Answer(200, {}, bytes(reply.arguments)), kind, tolerant=True)

    def _check_login(self, answer: Answer) -> None:
        if answer.status == 401:
            raise self._backoff.refused(
                ClientUnavailable(
                    "authentication",
                    "Transmission refused username or password. Check `username` and `password`.",
                )
            )
        if answer.status == 403:  # an address not in its whitelist, or too many failed logins
            banned = "attempts" in answer.text
            raise self._backoff.refused(
                ClientUnavailable("banned" if banned else "authentication", answer.text)
            )
        if answer.status != 200:
            self._http.raise_protocol_error(f"HTTP {answer.status} {answer.text}")
        self._backoff.accepted()

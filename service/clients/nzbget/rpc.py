"""Calls to NZBGet's JSON-RPC, and what is wrong with them."""

import dataclasses
from typing import NoReturn, TypeVar

import msgspec
from yarl import URL

from service.clients.http import Http, Patience, base_url
from service.clients.port import ClientRefused, ClientUnavailable

T = TypeVar("T")


def rpc_url(text: str) -> URL:
    """Where the JSON-RPC is: below the address, unless that names it."""
    url = base_url(text)
    return url if url.path.endswith("/jsonrpc") else url / "jsonrpc"


class Failure(msgspec.Struct, frozen=True):
    """The error of a JSON-RPC answer."""

    message: str = ""
    code: int = 0


class Reply(msgspec.Struct, frozen=True):
    """Every answer's frame."""

    result: msgspec.Raw = msgspec.Raw(b"null")
    error: Failure | None = None


class Rpc:
    """Calls over HTTP."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._patience = Patience()

    async def ask(self, kind: type[T], method: str, *params: object) -> T:
        """The result of one call, as a ``kind``. ClientRefused if NZBGet says no."""
        self._patience.check()
        body = msgspec.json.encode({"method": method, "params": params})
        answer = await self._http.call("POST", "", repeatable=method != "append", data=body)
        if answer.status == 401:
            self._refused()
        if answer.status != 200:
            self._http.misunderstood(f"HTTP {answer.status} {answer.words}")
        self._patience.accepted()
        reply = self._http.decode(answer, Reply)
        if reply.error is None:
            return self._http.decode(dataclasses.replace(answer, body=bytes(reply.result)), kind)
        if reply.error.code == 401:  # the restricted user's
            self._refused()
        raise ClientRefused(f"NZBGet says {reply.error.message!r}")

    def _refused(self) -> NoReturn:
        raise self._patience.refused(
            ClientUnavailable("authentication", "NZBGet refused username or password")
        )

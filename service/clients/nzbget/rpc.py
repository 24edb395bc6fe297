"""Call NZBGet's JSON-RPC, and map its errors."""

import dataclasses
from typing import NoReturn, TypeVar

import msgspec
from yarl import URL

from mediabus.service.clients.http import Http, LoginBackoff, base_url
from mediabus.service.clients.port import ClientRefused, ClientUnavailable

T = TypeVar("T")


def rpc_url(text: str) -> URL:
    """Return the URL of the JSON-RPC: ``/jsonrpc`` is appended unless the URL ends with it."""
    url = base_url(text)
    return url if url.path.endswith("/jsonrpc") else url / "jsonrpc"


class Failure(msgspec.Struct, frozen=True):
    """The error of a JSON-RPC answer."""

    message: str = ""
    code: int = 0


class Reply(msgspec.Struct, frozen=True):
    """An answer, with a result or an error."""

    result: msgspec.Raw = msgspec.Raw(b"null")
    error: Failure | None = None


class Rpc:
    """Calls over HTTP."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._backoff = LoginBackoff()

    async def ask(self, kind: type[T], method: str, *params: object) -> T:
        """Call a method. Return the result as a ``kind``. Raises ClientRefused for an error."""
        self._backoff.check()
        body = msgspec.json.encode({"method": method, "params": params})
        answer = await self._http.call("POST", "", repeatable=method != "append", data=body)
        if answer.status == 401:
            self._refused()
        if answer.status != 200:
            self._http.raise_protocol_error(f"HTTP {answer.status} {answer.text}")
        self._backoff.accepted()
        reply = self._http.decode(answer, Reply)
        if reply.error is None:
            result = dataclasses.replace(answer, body=bytes(reply.result))
            return self._http.decode(result, kind, tolerant=True)
        if reply.error.code == 401:  # the restricted user's
            self._refused()
        raise ClientRefused(f"NZBGet refused: {reply.error.message!r}")

    async def ask_aside(self, kind: type[T], default: T, method: str, *params: object) -> T:
        """Call a method whose result only explains something.

        Returns ``default`` if the answer is unusable or this version lacks the method, so that such
        an error does not hide the downloads.
        """
        try:
            return await self.ask(kind, method, *params)
        except ClientRefused:
            return default
        except ClientUnavailable as error:
            if error.reason != "protocol":
                raise
            return default

    def _refused(self) -> NoReturn:
        raise self._backoff.refused(
            ClientUnavailable(
                "authentication",
                "NZBGet refused username or password. Check `username` and `password`.",
            )
        )

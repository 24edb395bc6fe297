"""Calls to aria2's JSON-RPC: the secret, results that are all text, and what is wrong with them."""

from typing import TypeVar

import msgspec
from yarl import URL

from service.clients.http import Http, Patience, base_url
from service.clients.port import ClientRefused, ClientUnavailable

T = TypeVar("T")


def rpc_url(text: str) -> URL:
    """Where the RPC is: at ``/jsonrpc`` unless the address says so itself."""
    url = base_url(text)
    return url if url.path.endswith("/jsonrpc") else url / "jsonrpc"


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with a call."""

    message: str


class Reply(msgspec.Struct, frozen=True):
    """The frame of an answer: one of the two."""

    result: msgspec.Raw = msgspec.Raw(b"")
    error: Fault | None = None


class Rpc:
    """Calls over HTTP; ``secret`` is aria2's rpc-secret, empty if it has none."""

    def __init__(self, http: Http, secret: str) -> None:
        self._http = http
        self._token = [f"token:{secret}"] if secret else []
        self._patience = Patience()

    async def ask(self, kind: type[T], method: str, *params: object, repeatable: bool = True) -> T:
        """The result of one call, as a ``kind``. ClientRefused if aria2 says no."""
        full = [*self._token, *params]
        result = await self._send(f"aria2.{method}", full, repeatable=repeatable)
        self._patience.accepted()
        return self.understood(result, kind)

    async def ask_many(self, *calls: tuple[object, ...]) -> list[msgspec.Raw | Fault]:
        """The results of several calls, a method and its parameters each, at one moment."""
        if not calls:
            return []
        many = [
            {"methodName": f"aria2.{method}", "params": [*self._token, *params]}
            for method, *params in calls
        ]
        result = await self._send("system.multicall", [many])
        answers = self.understood(result, list[tuple[msgspec.Raw] | Fault])
        if len(answers) != len(calls):
            self._http.misunderstood(f"{len(answers)} answers to {len(calls)} calls")
        for answer in answers:
            if isinstance(answer, Fault):
                self._must_be_let_in(answer)
        self._patience.accepted()
        return [it if isinstance(it, Fault) else it[0] for it in answers]

    async def _send(
        self, method: str, params: list[object], *, repeatable: bool = True
    ) -> msgspec.Raw:
        self._patience.check()
        call = {"jsonrpc": "2.0", "id": "mediabus", "method": method, "params": params}
        answer = await self._http.call(
            "POST",
            "",
            repeatable=repeatable,
            data=msgspec.json.encode(call),
            headers={"Content-Type": "application/json"},
        )
        if answer.status in (401, 403):
            words = f"what stands before aria2 refused username or password: {answer.words}"
            raise self._patience.refused(ClientUnavailable("authentication", words))
        if answer.status not in (200, 400):
            self._http.misunderstood(f"HTTP {answer.status} {answer.words}")
        reply = self._http.decode(answer, Reply)
        if reply.error is not None:
            self._must_be_let_in(reply.error)
            raise ClientRefused(f"aria2 says {reply.error.message!r}")
        if not reply.result:
            self._http.misunderstood("an answer with neither a result nor an error")
        return reply.result

    def understood(self, result: msgspec.Raw | Fault, kind: type[T]) -> T:
        """The result as a ``kind``: aria2 writes numbers and truth as text."""
        if isinstance(result, Fault):
            self._http.misunderstood(result.message)
        try:
            return msgspec.json.decode(result, type=kind, strict=False)
        except msgspec.DecodeError as error:
            self._http.misunderstood(str(error), error)

    def _must_be_let_in(self, fault: Fault) -> None:
        if fault.message == "Unauthorized":
            raise self._patience.refused(
                ClientUnavailable(
                    "authentication", "aria2 refused the password, which is its rpc-secret"
                )
            )

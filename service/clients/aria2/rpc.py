"""Call aria2's JSON-RPC: add the secret, convert results from text, and map errors."""

from typing import TypeVar

import msgspec
from yarl import URL

from mediabus.service.clients.http import Answer, Http, LoginBackoff, base_url
from mediabus.service.clients.port import ClientRefused, ClientUnavailable

T = TypeVar("T")


def rpc_url(text: str) -> URL:
    """Return the URL of the RPC: ``/jsonrpc`` is appended unless the URL ends with it."""
    url = base_url(text)
    return url if url.path.endswith("/jsonrpc") else url / "jsonrpc"


class Fault(msgspec.Struct, frozen=True):
    """The error of a call."""

    message: str


class Reply(msgspec.Struct, frozen=True):
    """An answer, with either a result or an error."""

    result: msgspec.Raw = msgspec.Raw(b"")
    error: Fault | None = None


class Rpc:
    """Calls over HTTP. ``secret`` is aria2's rpc-secret, empty if it has none."""

    def __init__(self, http: Http, secret: str) -> None:
        self._http = http
        self._token = [f"token:{secret}"] if secret else []
        self._backoff = LoginBackoff()

    async def ask(self, kind: type[T], method: str, *params: object, repeatable: bool = True) -> T:
        """Call a method. Return the result as a ``kind``. Raises ClientRefused for an error."""
        full = [*self._token, *params]
        result = await self._send(f"aria2.{method}", full, repeatable=repeatable)
        self._backoff.accepted()
        return self.understood(result, kind)

    async def ask_many(self, *calls: tuple[object, ...]) -> list[msgspec.Raw | Fault]:
        """Make several calls in one request. Each is a method and its parameters."""
        if not calls:
            return []
        many = [
            {"methodName": f"aria2.{method}", "params": [*self._token, *params]}
            for method, *params in calls
        ]
        result = await self._send("system.multicall", [many])
        answers = self.understood(result, list[tuple[msgspec.Raw] | Fault])
        if len(answers) != len(calls):
            self._http.raise_protocol_error(f"{len(answers)} answers to {len(calls)} calls")
        for answer in answers:
            if isinstance(answer, Fault):
                self._check_login(answer)
        self._backoff.accepted()
        return [it if isinstance(it, Fault) else it[0] for it in answers]

    async def _send(
        self, method: str, params: list[object], *, repeatable: bool = True
    ) -> msgspec.Raw:
        self._backoff.check()
        call = {"jsonrpc": "2.0", "id": "mediabus", "method": method, "params": params}
        answer = await self._http.call(
            "POST",
            "",
            repeatable=repeatable,
            data=msgspec.json.encode(call),
            headers={"Content-Type": "application/json"},
        )
        if answer.status in (401, 403):
            words = f"the proxy in front of aria2 refused username or password: {answer.text}"
            raise self._backoff.refused(ClientUnavailable("authentication", words))
        if answer.status not in (200, 400):
            self._http.raise_protocol_error(f"HTTP {answer.status} {answer.text}")
        reply = self._http.decode(answer, Reply)
        if reply.error is not None:
            self._check_login(reply.error)
            raise ClientRefused(f"aria2 refused: {reply.error.message!r}")
        if not reply.result:
            self._http.raise_protocol_error("an answer with neither a result nor an error")
        return reply.result

    def understood(self, result: msgspec.Raw | Fault, kind: type[T]) -> T:
        """Convert a result to a ``kind``. aria2 writes numbers and booleans as text."""
        if isinstance(result, Fault):
            self._http.raise_protocol_error(result.message)
        answer = Answer(200, {}, bytes(result))
        return self._http.decode(answer, kind, strict=False, tolerant=True)

    def _check_login(self, fault: Fault) -> None:
        if fault.message == "Unauthorized":
            raise self._backoff.refused(
                ClientUnavailable(
                    "authentication", "aria2 refused the password: it must be its rpc-secret"
                )
            )

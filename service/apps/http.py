"""Call an application over HTTP, with its API key and the limits that clients have."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final, NoReturn, TypeVar

import msgspec

from mediabus.service.apps.settings import AppSettings
from mediabus.service.clients.http import Answer, Http, base_url, http_session
from mediabus.service.clients.limits import MAX_ANSWER_BYTES, MAX_JSON_VALUES
from mediabus.service.clients.port import ClientUnavailable

T = TypeVar("T")

MAX_LIBRARY_BYTES: Final = 256 * 1024 * 1024
"""Bytes of the list of all series or movies, which has no pages: 10,000 take about 80 million."""

MAX_LIBRARY: Final = 200_000
"""Series or movies of one application."""


class AppHttp:
    """The API of one application. Every failure is a ClientUnavailable with a reason."""

    def __init__(self, http: Http, settings: AppSettings) -> None:
        self._http = http
        self._settings = settings

    async def get(self, path: str, kind: type[T], **query: str) -> T:
        """Get ``path`` below the API's root, decoded; values of a wrong type are repaired.

        Raises:
            ClientUnavailable: no usable answer arrived.
        """
        answer = await self._called("GET", path, params=query)
        return self._http.decode(answer, kind, tolerant=True)

    async def get_all(self, path: str, kind: type[T]) -> list[T]:
        """Get a list that may be long. Only the fields of ``kind`` are kept in memory.

        Raises:
            ClientUnavailable: no usable answer arrived.
        """
        answer = await self._called("GET", path, limit=MAX_LIBRARY_BYTES)
        if answer.body.count(b"{") > MAX_JSON_VALUES:
            self.raise_protocol_error(f"its list has more than {MAX_JSON_VALUES} objects")
        items = self._decoded(answer, kind)
        if len(items) > MAX_LIBRARY:
            self.raise_protocol_error(f"its list has more than {MAX_LIBRARY} entries")
        return items

    def raise_protocol_error(self, what: str, cause: Exception | None = None) -> NoReturn:
        """Raise ClientUnavailable because the answer is not one of the application."""
        self._http.raise_protocol_error(what, cause)

    def _decoded(self, answer: Answer, kind: type[T]) -> list[T]:
        try:
            return msgspec.json.decode(answer.body, type=list[kind], strict=False)  # type: ignore[valid-type] # a type made here
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            if len(answer.body) > MAX_ANSWER_BYTES:
                self.raise_protocol_error(str(error), error)
        return self._http.decode(answer, list[kind], tolerant=True)  # type: ignore[valid-type] # as above

    async def send(self, method: str, path: str, body: object) -> Answer:
        """Send JSON, and return an answer with any status below 500.

        Raises:
            ClientUnavailable: no answer arrived, or the API key is wrong.
        """
        try:
            data = msgspec.json.encode(body)
        except (ValueError, OverflowError, RecursionError) as error:  # it came from an answer
            self.raise_protocol_error(f"its webhook cannot be sent back: {error}", error)
        headers = {"Content-Type": "application/json"}
        return await self._called(method, path, repeatable=False, data=data, headers=headers)

    async def _called(self, method: str, path: str, **options: Any) -> Answer:  # noqa: ANN401 - those of Http.call
        answer = await self._http.call(method, f"{self._settings.api}/{path}", **options)
        program, url = self._settings.program, base_url(self._settings.url).with_user(None)
        if answer.status in {401, 403}:
            raise ClientUnavailable(
                "authentication",
                f"{program} at {url} refused the API key: HTTP {answer.status}. Check `api_key`: "
                f"{program} shows it under Settings, General.",
            )
        if answer.status == 404 and method == "GET":
            self._http.raise_protocol_error(f"HTTP 404 for {path}")
        return answer


@contextlib.asynccontextmanager
async def app_http(settings: AppSettings) -> AsyncIterator[AppHttp]:
    """Open a session with an application; it is closed at exit. Calls nothing yet."""
    headers = {"X-Api-Key": settings.api_key, "Accept": "application/json"}
    async with http_session(base_url(settings.url), settings.program, settings, headers) as http:
        yield AppHttp(http, settings)

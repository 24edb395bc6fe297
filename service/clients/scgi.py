"""XML-RPC bodies on their way: over SCGI, straight to a program, or over HTTP, by a web server.

SCGI is headers as one netstring and the body behind it, a connection a request
(https://python.ca/scgi/protocol.txt).
"""

import asyncio
import contextlib
import urllib.parse
from collections.abc import AsyncIterator, Callable
from typing import Final, NoReturn, Protocol

from service.clients.http import Http, HttpSettings, Patience, base_url, basic_auth, http_session
from service.clients.port import ClientUnavailable
from service.runtime.redact import without_secrets

LARGEST: Final = 256 * 1024 * 1024
"""Bytes of an answer; 10,000 torrents of rTorrent make some eight million."""

CHUNK: Final = 256 * 1024
XML: Final = "text/xml"


class Way(Protocol):
    """A way to put a question and have the answer's body, with a deadline."""

    async def post(self, body: bytes, *, repeatable: bool) -> bytes:
        """Raises ClientUnavailable. A ``repeatable`` question may be put twice."""


class Scgi:
    """Straight to a socket, of TCP or of this machine; ``timeout`` in seconds for a call."""

    def __init__(self, url: str, program: str, *, timeout: float) -> None:
        self._url = url
        self._program = program
        self._timeout = timeout
        self._open = _opener(url)

    async def post(self, body: bytes, *, repeatable: bool) -> bytes:  # noqa: ARG002 - never is
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._exchange(request(body))
        except TimeoutError as error:
            raise ClientUnavailable(
                "connection", f"{self._program} at {self._url} did not answer in time"
            ) from error
        except (OSError, EOFError) as error:
            raise ClientUnavailable(
                "connection", f"cannot reach {self._program} at {self._url}: {error}"
            ) from error
        head, separator, content = answer.partition(b"\r\n\r\n")
        if not separator or not head.lower().startswith(b"status: 200"):
            self._misunderstood(f"{answer[:80]!r}")
        return content

    async def _exchange(self, question: bytes) -> bytes:
        reader, writer = await self._open()
        try:
            writer.write(question)
            await writer.drain()
            answer = bytearray()
            while chunk := await reader.read(CHUNK):
                answer += chunk
                if len(answer) > LARGEST:
                    self._misunderstood(f"more than {LARGEST} bytes")
            if not answer:
                raise EOFError("it hung up without an answer")
            return bytes(answer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _misunderstood(self, what: str) -> NoReturn:
        raise ClientUnavailable(
            "protocol", f"{self._url} does not answer as {self._program} does: {what}"
        )


class Web:
    """By a web server in front that may want a name and a password."""

    def __init__(self, http: Http, program: str) -> None:
        self._http = http
        self._program = program
        self._patience = Patience()

    async def post(self, body: bytes, *, repeatable: bool) -> bytes:
        self._patience.check()
        answer = await self._http.call(
            "POST", "", repeatable=repeatable, data=body, headers={"Content-Type": XML}
        )
        if answer.status in (401, 403):
            raise self._patience.refused(
                ClientUnavailable(
                    "authentication",
                    f"the web server before {self._program} refused username or password",
                )
            )
        if answer.status != 200:
            self._http.misunderstood(f"HTTP {answer.status} {answer.words}")
        self._patience.accepted()
        return answer.body


def request(body: bytes) -> bytes:
    """The body as an SCGI request."""
    pairs = {"CONTENT_LENGTH": len(body), "SCGI": 1, "CONTENT_TYPE": XML, "REQUEST_METHOD": "POST"}
    headers = "".join(f"{name}\0{value}\0" for name, value in pairs.items()).encode()
    return b"%d:%b,%b" % (len(headers), headers, body)


def must_be_way(settings: HttpSettings) -> None:
    """ValueError unless the address is one of a way."""
    if settings.url.lower().startswith("scgi:"):
        _opener(settings.url)
    else:
        HttpSettings.__post_init__(settings)


@contextlib.asynccontextmanager
async def way_to(settings: HttpSettings, program: str) -> AsyncIterator[Way]:
    """The way that the address names, closed on leaving. Asks nothing yet."""
    url, timeout = settings.url, settings.timeout
    if url.lower().startswith("scgi:"):
        yield Scgi(url, program, timeout=timeout)
        return
    headers = {}
    if settings.username or settings.password:
        headers["Authorization"] = basic_auth(settings.username, settings.password)
    async with http_session(base_url(url), program, settings, headers) as http:
        yield Web(http, program)


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def _opener(url: str) -> Callable[[], "asyncio.Future[Streams]"]:
    parts = urllib.parse.urlsplit(url)
    host, port, path = parts.hostname, parts.port, urllib.parse.unquote(parts.path)
    if host and port:
        return lambda: asyncio.ensure_future(asyncio.open_connection(host, port))
    if not parts.netloc and len(path) > 1:
        return lambda: asyncio.ensure_future(asyncio.open_unix_connection(path))
    shown = without_secrets(url)
    raise ValueError(
        f"url must look like scgi://host:port or scgi:///path/of/socket, not {shown!r}"
    )

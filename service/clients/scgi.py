"""Send XML-RPC bodies to a client: over SCGI, or over HTTP through a web server.

An SCGI request is the headers as one netstring, followed by the body; each request has its own
connection (https://python.ca/scgi/protocol.txt).
"""

import asyncio
import contextlib
import urllib.parse
from collections.abc import AsyncIterator, Callable
from typing import Final, NoReturn, Protocol

from mediabus.runtime.redact import without_secrets
from mediabus.service.clients.http import (
    Http,
    HttpSettings,
    LoginBackoff,
    base_url,
    basic_auth,
    http_session,
    unreachable,
)
from mediabus.service.clients.limits import MAX_PARSED_BYTES
from mediabus.service.clients.port import ClientUnavailable

CHUNK: Final = 256 * 1024
"""Bytes that are read from a socket at once."""

XML: Final = "text/xml"


class Transport(Protocol):
    """Sends a request body to a client and returns the body of the answer."""

    async def post(self, body: bytes, *, repeatable: bool) -> bytes:
        """Send one request. A ``repeatable`` one may be sent twice.

        Raises:
            ClientUnavailable: no usable answer arrived in time.
        """


class Scgi:
    """A TCP or Unix socket that speaks SCGI. ``timeout`` is that of one call, in seconds."""

    def __init__(self, url: str, program: str, *, timeout: float) -> None:
        self._url = url
        self._program = program
        self._timeout = timeout
        self._open = _opener(url)

    async def post(self, body: bytes, *, repeatable: bool) -> bytes:  # noqa: ARG002 - no reuse
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._exchange(request(body))
        except (OSError, EOFError) as error:  # TimeoutError is an OSError
            raise unreachable(self._program, self._url, error) from error
        head, separator, content = answer.partition(b"\r\n\r\n")
        if not separator or not head.lower().startswith(b"status: 200"):
            self._raise_protocol_error(f"{answer[:80]!r}")
        return content

    async def _exchange(self, question: bytes) -> bytes:
        reader, writer = await self._open()
        try:
            writer.write(question)
            await writer.drain()
            answer = bytearray()
            while chunk := await reader.read(CHUNK):
                answer += chunk
                if len(answer) > MAX_PARSED_BYTES:
                    self._raise_protocol_error(f"the answer has more than {MAX_PARSED_BYTES} bytes")
            if not answer:
                raise EOFError("connection closed without an answer")
            return bytes(answer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _raise_protocol_error(self, what: str) -> NoReturn:
        raise ClientUnavailable(
            "protocol",
            f"{self._url} does not answer like {self._program}: {what}. "
            f"Check that `url` is the address of {self._program}.",
        )


class Web:
    """A web server that passes requests on to the client and may ask for a password."""

    def __init__(self, http: Http, program: str) -> None:
        self._http = http
        self._program = program
        self._backoff = LoginBackoff()

    async def post(self, body: bytes, *, repeatable: bool) -> bytes:
        self._backoff.check()
        answer = await self._http.call(
            "POST", "", repeatable=repeatable, data=body, headers={"Content-Type": XML}
        )
        if answer.status in (401, 403):
            raise self._backoff.refused(
                ClientUnavailable(
                    "authentication",
                    f"the web server in front of {self._program} refused username or password. "
                    "Check `username` and `password`.",
                )
            )
        if answer.status != 200:
            self._http.raise_protocol_error(f"HTTP {answer.status} {answer.text}")
        self._backoff.accepted()
        return answer.body


def request(body: bytes) -> bytes:
    """Return the body as an SCGI request."""
    pairs = {"CONTENT_LENGTH": len(body), "SCGI": 1, "CONTENT_TYPE": XML, "REQUEST_METHOD": "POST"}
    headers = "".join(f"{name}\0{value}\0" for name, value in pairs.items()).encode()
    return b"%d:%b,%b" % (len(headers), headers, body)


def check_address(settings: HttpSettings) -> None:
    """Check that the URL of the settings is an SCGI or HTTP one.

    Raises:
        ValueError: it is neither.
    """
    if settings.url.lower().startswith("scgi:"):
        _opener(settings.url)
    else:
        HttpSettings.__post_init__(settings)


@contextlib.asynccontextmanager
async def open_transport(settings: HttpSettings, program: str) -> AsyncIterator[Transport]:
    """Open the transport that the URL names; it is closed at exit. Sends nothing yet."""
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
    expected = "scgi://host:port or scgi:///path/of/socket"
    try:
        parts = urllib.parse.urlsplit(url)
        host, port, path = parts.hostname, parts.port, urllib.parse.unquote(parts.path)
    except ValueError:  # it would quote what it takes for a port
        raise ValueError(f"url must look like {expected}") from None
    if host and port:
        return lambda: asyncio.ensure_future(asyncio.open_connection(host, port))
    if not parts.netloc and len(path) > 1:
        return lambda: asyncio.ensure_future(asyncio.open_unix_connection(path))
    raise ValueError(f"url must look like {expected}, not {without_secrets(url)!r}")

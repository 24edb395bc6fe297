"""Call clients over HTTP: URLs, certificates, timeouts and login backoff.

Every failure is raised as ``ClientUnavailable`` with a reason.
"""

import base64
import contextlib
import dataclasses
import io
import os
import re
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, NoReturn, Protocol, TypeVar

import aiohttp
from yarl import URL

from mediabus.runtime.error_text import error_text
from mediabus.runtime.redact import without_secrets
from mediabus.runtime.text_files import NotText, read_certificates
from mediabus.service.clients.limits import MAX_ANSWER_BYTES, LimitExceeded, json_of
from mediabus.service.clients.port import ClientUnavailable
from mediabus.service.clients.settings import ClientSettings

T = TypeVar("T")

KEEP_ALIVE: Final = 5.0
"""Seconds that a connection may idle. qBittorrent closes idle connections after 7 s, and a call
must not be sent over one that is being closed."""

GATEWAY_ERRORS: Final = {502, 503, 504}
"""Statuses of a reverse proxy that cannot reach the program behind it."""

FIRST_WAIT: Final = 30.0
"""Seconds before the next login after the first refused one."""

MAX_WAIT: Final = 3600.0
"""Seconds before the next login, at most."""


def parsed_url(text: str, expected: str) -> URL:
    """Parse the ``url`` of a client.

    Raises:
        ValueError: the text is not a URL. The message does not quote it: in text that cannot be
            parsed, the password could be anywhere.
    """
    try:
        return URL(text.strip())
    except ValueError:
        raise ValueError(
            f"url must look like {expected}. In its password, percent-encode every character that"
            " is not a letter or digit"
        ) from None


def base_url(text: str) -> URL:
    """Parse the URL of a client and drop its trailing slash, query and fragment.

    Raises:
        ValueError: the text is not an http or https URL with a host.
    """
    expected = "http://host:port or https://host/path"
    url = parsed_url(text, expected)
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"url must look like {expected}, not {without_secrets(text)!r}")
    return url.with_path(url.path.rstrip("/")).with_query(None).with_fragment(None)


def basic_auth(username: str, password: str) -> str:
    """Return the value of an ``Authorization`` header."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def trusting(authority: str) -> ssl.SSLContext:
    """Return a TLS context that trusts only certificates signed by this authority, a PEM file.

    Raises:
        ValueError: the file cannot be read or holds no certificate.
    """
    try:
        return ssl.create_default_context(cadata=read_certificates(authority))
    except (OSError, NotText) as error:  # ssl.SSLError is an OSError
        raise ValueError(f"tls_ca cannot be {authority}: {error}") from error


class Reach(Protocol):
    """How a program is reached: its certificate authority, and the seconds for one call."""

    @property
    def tls_ca(self) -> str | None: ...

    @property
    def timeout(self) -> float: ...


class HttpSettings(ClientSettings, frozen=True, kw_only=True):
    """The settings of a client that is called over HTTP."""

    tls_ca: str | None = None
    """The authority of an https URL, a PEM file, if this machine does not trust it."""

    def __post_init__(self) -> None:
        ClientSettings.__post_init__(self)
        base_url(self.url)
        if self.tls_ca:
            trusting(self.tls_ca)


@dataclasses.dataclass(frozen=True)
class Answer:
    """A complete HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as a line of plain text for messages, at most 200 characters."""
        text = re.sub(r"<[^>]*>", " ", self.body[:2000].decode(errors="replace"))
        return " ".join(text.split())[:200]


class Http:
    """HTTP calls to one client. Error messages never contain the password of its URL."""

    def __init__(self, session: aiohttp.ClientSession, base: URL, program: str) -> None:
        self._session = session
        self._base = base.with_user(None)
        self._program = program

    async def call(
        self,
        method: str,
        path: str,
        *,
        repeatable: bool = True,
        limit: int = MAX_ANSWER_BYTES,
        **options: Any,  # noqa: ANN401 - those of aiohttp's request
    ) -> Answer:
        """Send one request to ``path`` below the base URL.

        A ``repeatable`` request is repeated once if the server closes the connection: an idle
        connection may have been closed unnoticed, for example by a restart of the client. An
        answer of more than ``limit`` bytes is refused.

        Raises:
            ClientUnavailable: no usable answer arrived.
        """
        url = self._base / path if path else self._base
        try:
            try:
                answer = await self._request(method, url, limit, options)
            except aiohttp.ServerDisconnectedError:
                if not repeatable:
                    raise
                answer = await self._request(method, url, limit, options)
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            self._raise_unreachable(error)
        except ValueError as error:  # a limit exceeded, or not HTTP
            self.raise_protocol_error(str(error), error)
        self._check_status(answer)
        return answer

    async def _request(self, method: str, url: URL, limit: int, options: dict[str, Any]) -> Answer:
        async with self._session.request(method, url, allow_redirects=False, **options) as response:
            return Answer(response.status, response.headers, await body_of(response, limit))

    def cookies(self, name: str) -> dict[str, str]:
        """Return the cookies whose names contain ``name``."""
        cookies = self._session.cookie_jar.filter_cookies(self._base)
        return {key: cookie.value for key, cookie in cookies.items() if name in key}

    def decode(
        self, answer: Answer, kind: type[T], *, strict: bool = True, tolerant: bool = False
    ) -> T:
        """Decode the JSON body into ``kind``, as ``json_of`` does.

        Invalid UTF-8 is replaced: NZBGet copies bytes of file names without encoding them.

        Raises:
            ClientUnavailable: the body cannot be decoded, so another program answered.
        """
        try:
            try:
                return json_of(answer.body, kind, strict=strict, tolerant=tolerant)
            except UnicodeDecodeError:
                body = answer.body.decode(errors="replace").encode()
                return json_of(body, kind, strict=strict, tolerant=tolerant)
        except ValueError as error:
            self.raise_protocol_error(f"{error} in {answer.text[:80]!r}", error)

    def raise_protocol_error(self, what: str, cause: Exception | None = None) -> NoReturn:
        """Raise ClientUnavailable because the answer is not one of this program."""
        raise ClientUnavailable(
            "protocol",
            f"{self._base} does not answer like {self._program}: {what.rstrip('.')}. "
            f"Check that `url` is the address of {self._program}.",
        ) from cause

    def _raise_unreachable(self, error: Exception) -> NoReturn:
        if isinstance(error, aiohttp.ClientSSLError):
            raise ClientUnavailable(
                "tls",
                f"TLS with {self._program} at {self._base} failed: {error}. Check the certificate, "
                "and set `tls_ca` if its authority is not one that this machine trusts.",
            ) from error
        if isinstance(error, aiohttp.ClientResponseError):  # not HTTP, or too many headers
            self.raise_protocol_error(error.message, error)
        raise unreachable(self._program, str(self._base), error) from error

    def _check_status(self, answer: Answer) -> None:
        status = answer.status
        if status == 429:
            raise ClientUnavailable(
                "rate_limited", f"{self._program} at {self._base} limits requests: HTTP 429"
            )
        if status in GATEWAY_ERRORS:
            raise ClientUnavailable(
                "connection",
                f"The proxy at {self._base} cannot reach {self._program}: HTTP {status}. "
                f"Check that {self._program} is running.",
            )
        if 300 <= status < 400:
            to = answer.headers.get("Location", "an unknown address")
            self.raise_protocol_error(f"it redirects to {to}")
        if status >= 500:
            self.raise_protocol_error(f"HTTP {status} {answer.text}")


async def body_of(response: aiohttp.ClientResponse, limit: int = MAX_ANSWER_BYTES) -> bytes:
    """Read the whole body, decompressed.

    Raises:
        LimitExceeded: the body has more than ``limit`` bytes.
    """
    body = io.BytesIO()  # whose getvalue() does not copy the bytes
    async for chunk in response.content.iter_any():
        body.write(chunk)
        if body.tell() > limit:
            response.close()
            raise LimitExceeded(f"the answer has more than {limit} bytes")
    return body.getvalue()


def unreachable(program: str, url: str, error: Exception) -> ClientUnavailable:
    """Return what to raise if the connection to a client fails or its answer takes too long."""
    if isinstance(error, TimeoutError):
        return ClientUnavailable(
            "connection",
            f"{program} at {url} did not answer in time. Check that it is running and not "
            "overloaded, or raise `timeout`.",
        )
    return ClientUnavailable(
        "connection",
        f"Cannot reach {program} at {url}: {_cause(error)}. "
        "Check that it is running and that `url` is correct.",
    )


def _cause(error: Exception) -> str:
    """Return the reason of a failed connection, such as ``connection refused``."""
    system_error = getattr(error, "os_error", error)
    number = getattr(system_error, "errno", None)
    if isinstance(number, int) and number > 0:
        return os.strerror(number).lower()
    return error_text(error)


class LoginBackoff:
    """Delays logins after a refused one, so that the client does not ban this machine.

    The first refusal delays the next login by 30 s, each further one by four times as long, up to
    an hour. Five refusals, qBittorrent's limit, then take most of an hour.
    """

    def __init__(self) -> None:
        self._wait = FIRST_WAIT
        self._until = 0.0
        self._refusal: ClientUnavailable | None = None

    def check(self) -> None:
        """Raise the last refusal again while the delay lasts."""
        left = self._until - time.monotonic()
        if self._refusal is not None and left > 0:
            raise ClientUnavailable(
                self._refusal.reason, f"{self._refusal} (login not tried again for {left:.0f} s)"
            ) from self._refusal

    def refused(self, refusal: ClientUnavailable) -> ClientUnavailable:
        """Start the next delay. Returns the refusal, to be raised."""
        self._until = time.monotonic() + self._wait
        self._wait = min(4 * self._wait, MAX_WAIT)
        self._refusal = refusal
        return refusal

    def accepted(self) -> None:
        """Reset the delay after a successful login."""
        self._wait = FIRST_WAIT
        self._refusal = None


@contextlib.asynccontextmanager
async def http_session(
    base: URL, program: str, settings: Reach, headers: Mapping[str, str] | None = None
) -> AsyncIterator[Http]:
    """Open an HTTP session with its own cookies and connections; it is closed at exit.

    The ``timeout`` of the settings limits each call as a whole. A username and password in the URL
    are sent as basic authentication.
    """
    headers = dict(headers or {})
    if base.user:
        headers.setdefault("Authorization", basic_auth(base.user, base.password or ""))
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            keepalive_timeout=KEEP_ALIVE,
            ssl=trusting(settings.tls_ca) if settings.tls_ca else True,
        ),
        # Accept cookies of numeric hosts, and do not quote them: qBittorrent's are base64.
        cookie_jar=aiohttp.CookieJar(unsafe=True, quote_cookie=False),
        timeout=aiohttp.ClientTimeout(total=settings.timeout),
        headers=headers,
    ) as session:
        yield Http(session, base, program)

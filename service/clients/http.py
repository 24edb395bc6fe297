"""The edge to HTTP: addresses, certificates, calls with a deadline, each failure as
``ClientUnavailable``."""

import base64
import contextlib
import dataclasses
import re
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, NoReturn, TypeVar

import aiohttp
import msgspec
from yarl import URL

from service.clients.port import ClientUnavailable
from service.clients.settings import ClientSettings
from service.runtime.redact import without_secrets

T = TypeVar("T")

KEEP_ALIVE: Final = 5.0
"""Seconds a connection may idle. qBittorrent hangs up after 7: a call must not run into that."""

GATEWAY_TROUBLE: Final = {502, 503, 504}
"""What a reverse proxy says when the program behind it is away."""

FIRST_WAIT: Final = 30.0
LONGEST_WAIT: Final = 3600.0


def base_url(text: str) -> URL:
    """An http(s) address with a host, perhaps a path, no slash at its end. ValueError if not."""
    url = URL(text.strip())
    if url.scheme not in ("http", "https") or not url.host:
        shown = without_secrets(text)
        raise ValueError(f"url must look like http://host:port or https://host/path, not {shown!r}")
    return url.with_path(url.path.rstrip("/")).with_query(None).with_fragment(None)


def basic_auth(username: str, password: str) -> str:
    """The value of an ``Authorization`` header."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def trusting(authority: str) -> ssl.SSLContext:
    """Trusts the certificates that this authority has signed, a PEM file, and no others. ValueError
    if it cannot be used."""
    try:
        return ssl.create_default_context(cafile=authority)
    except OSError as error:  # ssl.SSLError is one
        raise ValueError(f"tls_ca cannot be {authority}: {error}") from error


class HttpSettings(ClientSettings, frozen=True, kw_only=True):
    """The settings of a client that is called over HTTP. ``tls_ca`` is who signed the certificate
    at an https address, if it is nobody whom this machine trusts."""

    tls_ca: str | None = None

    def __post_init__(self) -> None:
        base_url(self.url)
        if self.tls_ca:
            trusting(self.tls_ca)


@dataclasses.dataclass(frozen=True)
class Answer:
    """A whole answer, whatever its status below 500."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def words(self) -> str:
        """The body for a person: no markup, on one line, at most 200 characters."""
        text = re.sub(r"<[^>]*>", " ", self.body[:2000].decode(errors="replace"))
        return " ".join(text.split())[:200]


class Http:
    """Calls to one program below one address. Errors never show a password in the address."""

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
        **options: Any,  # noqa: ANN401 - those of aiohttp's request
    ) -> Answer:
        """One request to ``path`` below the address. A ``repeatable`` one is sent again if the
        server hung up on it: it may have done so before, unseen, as when it was restarted."""
        url = self._base / path if path else self._base
        try:
            try:
                answer = await self._request(method, url, options)
            except aiohttp.ServerDisconnectedError:
                if not repeatable:
                    raise
                answer = await self._request(method, url, options)
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            self._unreachable(error)
        self._must_be_sane(answer)
        return answer

    async def _request(self, method: str, url: URL, options: dict[str, Any]) -> Answer:
        async with self._session.request(method, url, allow_redirects=False, **options) as response:
            return Answer(response.status, response.headers, await response.read())

    def cookies(self, name: str) -> dict[str, str]:
        """The cookies whose names contain ``name``."""
        cookies = self._session.cookie_jar.filter_cookies(self._base)
        return {key: cookie.value for key, cookie in cookies.items() if name in key}

    def decode(self, answer: Answer, kind: type[T]) -> T:
        """The JSON body as a ``kind``; anything else is not the program that was expected. NZBGet
        passes on some bytes of a name as they came: what is no UTF-8 is replaced."""
        try:
            try:
                return msgspec.json.decode(answer.body, type=kind)
            except UnicodeDecodeError:
                return msgspec.json.decode(answer.body.decode(errors="replace"), type=kind)
        except msgspec.DecodeError as error:  # ValidationError is one
            self.misunderstood(f"{error} in {answer.words[:80]!r}", error)

    def misunderstood(self, what: str, cause: Exception | None = None) -> NoReturn:
        """Say that what answers does not speak as this program does."""
        raise ClientUnavailable(
            "protocol", f"{self._base} does not answer as {self._program} does: {what}"
        ) from cause

    def _unreachable(self, error: Exception) -> NoReturn:
        if isinstance(error, aiohttp.ClientSSLError):
            raise ClientUnavailable("tls", f"no TLS with {self._base}: {error}") from error
        if isinstance(error, TimeoutError):
            raise ClientUnavailable(
                "connection", f"{self._program} at {self._base} did not answer in time"
            ) from error
        raise ClientUnavailable(
            "connection", f"cannot reach {self._program} at {self._base}: {error}"
        ) from error

    def _must_be_sane(self, answer: Answer) -> None:
        status = answer.status
        if status == 429:
            raise ClientUnavailable("rate_limited", f"{self._base} asks for patience: HTTP 429")
        if status in GATEWAY_TROUBLE:
            raise ClientUnavailable(
                "connection",
                f"{self._program} is away behind its proxy {self._base}: HTTP {status}",
            )
        if 300 <= status < 400:
            to = answer.headers.get("Location", "nowhere")
            self.misunderstood(f"it redirects to {to}; set url to where {self._program} itself is")
        if status >= 500:
            self.misunderstood(f"HTTP {status} {answer.words}")


class Patience:
    """Keeps a refused password from being tried until the client bans us.

    Each refusal in a row makes the next try wait, 30 s at first and four times longer each time, up
    to an hour: five refusals, qBittorrent's limit, then take most of one.
    """

    def __init__(self) -> None:
        self._wait = FIRST_WAIT
        self._until = 0.0
        self._refusal: ClientUnavailable | None = None

    def check(self) -> None:
        """Raises the last refusal again while it is too early to try."""
        left = self._until - time.monotonic()
        if self._refusal is not None and left > 0:
            raise ClientUnavailable(
                self._refusal.reason, f"{self._refusal}; not tried again for {left:.0f} s"
            ) from self._refusal

    def refused(self, refusal: ClientUnavailable) -> ClientUnavailable:
        """Remember the refusal; returns it to be raised."""
        self._until = time.monotonic() + self._wait
        self._wait = min(4 * self._wait, LONGEST_WAIT)
        self._refusal = refusal
        return refusal

    def accepted(self) -> None:
        """The password is right."""
        self._wait = FIRST_WAIT
        self._refusal = None


@contextlib.asynccontextmanager
async def http_session(
    base: URL, program: str, settings: HttpSettings, headers: Mapping[str, str] | None = None
) -> AsyncIterator[Http]:
    """A session of its own cookies and connections, closed on leaving; the settings' timeout is one
    for a call as a whole. A name and password in the address go along as basic authentication."""
    headers = dict(headers or {})
    if base.user:
        headers.setdefault("Authorization", basic_auth(base.user, base.password or ""))
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            keepalive_timeout=KEEP_ALIVE,
            ssl=trusting(settings.tls_ca) if settings.tls_ca else True,
        ),
        # An address of digits is a host like any other here, and qBittorrent's cookies are base64.
        cookie_jar=aiohttp.CookieJar(unsafe=True, quote_cookie=False),
        timeout=aiohttp.ClientTimeout(total=settings.timeout),
        headers=headers,
    ) as session:
        yield Http(session, base, program)

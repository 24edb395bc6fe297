"""A webhook: the CloudEvent as an HTTP POST, signed as Standard Webhooks 1.0 says."""

import asyncio
import datetime
import email.utils
import ssl
from typing import Final

import aiohttp
from yarl import URL

from mediabus.consumers.notifier.signature import signed
from mediabus.consumers.notifier.targets.port import Failed, Message
from mediabus.runtime.error_text import error_text
from mediabus.runtime.url_policy import Allowed, Gate
from mediabus.schemas import codec

FINAL: Final = {400, 405, 406, 410, 411, 413, 414, 415, 417, 422, 431, 451}
"""Answers about the message itself, which a retry does not change. 401, 403 and 404 are no such
answers: a token may be corrected, and a proxy answers 404 while the program behind it starts."""

MAX_ANSWER: Final = 512
"""Bytes of an answer that are read, for the reason of a failure."""

IDLE: Final = 3.0
"""Seconds for which an idle connection is kept. Servers close theirs later."""

ONE: Final = "application/cloudevents+json"
SEVERAL: Final = "application/cloudevents-batch+json"


class Webhook:
    """One URL. ``secrets`` has two entries while a secret is replaced by another."""

    def __init__(
        self,
        url: str,
        *,
        secrets: tuple[str, ...],
        allowed: Allowed,
        timeout: float,
        tls_ca: str | None = None,
    ) -> None:
        self._url = parsed_url(url)
        self._secrets = secrets
        self._timeout = timeout
        self._gate = Gate(allowed, self._url.host or "", self._url.port)
        context = ssl.create_default_context(cafile=tls_ca)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                socket_factory=self._gate.socket, keepalive_timeout=IDLE, ssl=context
            ),
            headers={"User-Agent": "mediabus"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def send(self, message: Message) -> str:
        """POST a message. A 2xx within the timeout accepts it. Raises Failed."""
        self._gate.refused = None
        try:
            async with asyncio.timeout(self._timeout):
                return await self._post(message)
        except TimeoutError as error:
            raise Failed(
                f"no answer within {self._timeout:g} s: it may have the message"
            ) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Failed(self._reason(error)) from error

    async def _post(self, message: Message) -> str:
        body = body_of(message)
        headers = signed(self._secrets, message.id, int(message.now.timestamp()), body)
        headers["Content-Type"] = ONE if len(message.envelopes) == 1 else SEVERAL
        async with self._session.post(
            self._url, data=body, headers=headers, allow_redirects=False
        ) as response:
            if 200 <= response.status < 300:
                return f"HTTP {response.status}"  # its body may never come
            text = (await response.content.read(MAX_ANSWER)).decode(errors="replace")
            raise Failed(
                f"HTTP {response.status} {text}".strip(),
                is_final=response.status in FINAL,
                retry_after=retry_after(response.headers.get("Retry-After"), message.now),
            )

    def _reason(self, error: Exception) -> str:
        host = self._url.host
        if self._gate.refused is not None:
            return (
                f"{host} {self._gate.refused}. To allow it, set "
                f'[notifier] allowed_hosts = ["{host}"]'
            )
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            return f"the certificate of {host} is not valid: {error_text(error.certificate_error)}"
        return f"cannot reach {host}: {error_text(error)}"


def parsed_url(url: str) -> URL:
    """Parse the URL of a webhook. Raises ValueError."""
    parsed = URL(url)
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ValueError("a webhook is an http or https URL")
    return parsed


def body_of(message: Message) -> bytes:
    """Return the event in structured JSON; several events as a JSON array."""
    encoded = [codec.encode(envelope) for envelope in message.envelopes]
    return encoded[0] if len(encoded) == 1 else b"[" + b",".join(encoded) + b"]"


def retry_after(value: str | None, now: datetime.datetime) -> float | None:
    """Parse a ``Retry-After`` in seconds, or an HTTP date; None for anything else."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value.strip()[:9])
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return max((moment - now).total_seconds(), 0.0)

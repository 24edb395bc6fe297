"""Webhooks of applications: ``POST /hooks/<app>/<token>``.

The senders try once, wait for the answer while they work, and stop sending after failures. So the
answer comes within two seconds, and it is 200 also for a webhook of an unknown kind. What the
history of the application has is read from there: its webhook only wakes the reader.
"""

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from aiohttp import web
from nats.errors import Error as NatsError

from mediabus.runtime import metrics
from mediabus.runtime.error_text import error_text
from mediabus.runtime.nats.bus import Bus
from mediabus.schemas import codec
from mediabus.schemas.decoding import NOT_JSON
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import AppUnknownEvent
from mediabus.schemas.identity import Actor, Resource
from mediabus.schemas.subjects import WAKE_SUBJECT, subject_of
from mediabus.service.apps.port import Fact, UnknownWebhook, Webhook
from mediabus.service.apps.settings import AppSettings
from mediabus.service.apps.wake import encode_wake
from mediabus.service.ingest.events import RETRYABLE
from mediabus.service.ingest.http.body import MAX_BODY, TooLarge, read_body
from mediabus.service.ingest.http.replies import answer, refuse
from mediabus.service.ingest.http.tokens import is_authorized, secrets_in

log: Final = logging.getLogger("mediabus.webhooks")

ANSWER_WITHIN: Final = 1.8
"""Seconds to store the events of a webhook. A sender never waits more than two seconds."""

PREFIX: Final = "/hooks/"

UNENCODABLE: Final = (codec.InvalidEvent, RecursionError, OverflowError, UnicodeError)
"""What an event raises that is too large, or has a NUL or a number that JSON cannot have."""

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class Unavailable(Exception):
    """NATS did not store an event. The message has the reason."""


class Webhooks:
    """The endpoint of all applications.

    ``apps`` is read at each request, because a reload of the settings changes it.
    """

    def __init__(self, bus: Bus, apps: Sequence[AppSettings]) -> None:
        self._bus = bus
        self._apps = apps

    async def receive(self, request: web.BaseRequest) -> web.StreamResponse:
        """Store what a webhook says, and wake the reader of its application."""
        name, _, token = request.path.removeprefix(PREFIX).partition("/")
        if request.method not in {"POST", "PUT"}:
            return refuse(405, "use POST or PUT", Allow="POST, PUT")
        app = next((app for app in self._apps if app.name == name), None)
        given = [*secrets_in(request.headers), token]
        if app is None or not is_authorized(given, app.token):
            return refuse(401, "unknown application or wrong token", WWW_Authenticate="Basic")
        try:
            body = await read_body(request)
        except TooLarge:
            return refuse(413, f"a webhook may have {MAX_BODY} bytes")
        return await self._accept(app, body)

    async def _accept(self, app: AppSettings, body: bytes) -> web.Response:
        try:
            members = _decode(body)
        except NOT_JSON as error:
            metrics.WEBHOOKS.labels(app.name, "invalid").inc()
            return refuse(400, f"not a JSON object: {error}")
        webhook = _read(app, members, len(body))
        try:
            stored = await self._store(app, webhook, body)
        except Unavailable as error:
            metrics.WEBHOOKS.labels(app.name, "unavailable").inc()
            return refuse(503, str(error), Retry_After="10")
        metrics.WEBHOOKS.labels(app.name, "accepted").inc()
        await self._wake(app.name, webhook)
        return answer(200, {"kind": webhook.kind, "events": stored})

    async def _store(self, app: AppSettings, webhook: Webhook, body: bytes) -> list[str]:
        """Publish the facts of a webhook, and return the ids of the events."""
        if not self._bus.is_connected and (webhook.facts or "test" in webhook.kind.lower()):
            raise Unavailable("NATS is not connected")
        envelopes = [_envelope(app.name, fact) for fact in webhook.facts]
        # Keyed by the token, so that no other publisher can use the message id first.
        digest = hmac.new(app.token.encode(), body, hashlib.sha256).hexdigest()
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                for number, envelope in enumerate(envelopes):
                    await self._publish(envelope, f"{app.name}/{digest}/{number}")
        except RETRYABLE as error:
            raise Unavailable(f"NATS did not store the event: {error_text(error)}") from error
        return [str(envelope.id) for envelope in envelopes]

    async def _publish(self, envelope: Envelope, message_id: str) -> None:
        """Publish an event. NATS drops it if a proxy has sent the same webhook again."""
        payload = codec.encode(envelope)
        headers = {"Nats-Msg-Id": message_id, "Content-Type": codec.CONTENT_TYPE}
        await self._bus.js.publish(subject_of(envelope), payload, headers=headers)

    async def _wake(self, name: str, webhook: Webhook) -> None:
        """Make the reader read now. If that fails, it reads at its next poll."""
        if not self._bus.is_connected:
            return
        try:
            await self._bus.nc.publish(f"{WAKE_SUBJECT}.{name}", encode_wake(webhook))
        except NatsError as error:
            log.info("cannot wake the reader", extra={"app": name, "error": error_text(error)})


def _read(app: AppSettings, body: dict[str, Any], size: int) -> Webhook:
    """Return what a webhook says. One that cannot be read becomes ``app.unknown_event``."""
    try:
        webhook = app.read_webhook(body)
        for fact in webhook.facts:
            _check(app.name, fact)
    except UnknownWebhook as unknown:
        return _unknown(app.name, unknown.kind, str(unknown), body, size)
    except UNENCODABLE as error:
        return _unknown(app.name, None, str(error), body, size)
    return webhook


def _unknown(app: str, kind: str | None, reason: str, body: dict[str, Any], size: int) -> Webhook:
    log.warning("unknown webhook", extra={"app": app, "kind": kind, "reason": reason})
    shown = kind[:255].replace("\0", "\N{REPLACEMENT CHARACTER}") if kind else None
    event = AppUnknownEvent(app=app, event_type=shown, reason=reason[:1000], body=body)
    fact = Fact(event, Resource("app", app), Actor("system", app))
    try:
        _check(app, fact)
    except UNENCODABLE:
        smaller = msgspec.structs.replace(event, body=None, omitted_bytes=size)
        fact = fact._replace(event=smaller)
    return Webhook(kind or "unknown", (fact,))


def _check(app: str, fact: Fact) -> None:
    """Raise an error of UNENCODABLE if the persister would refuse the event of a fact."""
    codec.decode(codec.encode(_envelope(app, fact)))


def _envelope(app: str, fact: Fact) -> Envelope:
    """Return the event of a fact. One with a derived id has no time, so it is stored once."""
    envelope = Envelope.of(
        fact.event, actor=fact.actor, resource=fact.resource, correlation_id=fact.correlation_id
    )
    envelope = msgspec.structs.replace(envelope, source=f"mediabus/{app}")
    if fact.id is None:
        return envelope
    return msgspec.structs.replace(envelope, id=fact.id, has_time=False)

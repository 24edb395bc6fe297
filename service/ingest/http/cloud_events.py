"""CloudEvents over HTTP: ``POST /events`` in structured, binary and batch mode.

The rules are those of the CloudEvents HTTP protocol binding 1.0.2. Events are checked as those
that a program with a key publishes over NATS. The answer is 200 once JetStream has stored them.
"""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec
from aiohttp import web

from mediabus.runtime import metrics, tracing
from mediabus.runtime.error_text import error_text
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.once import publish_once
from mediabus.schemas import binary_mode, codec
from mediabus.schemas.decoding import NOT_JSON
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.subjects import subject_of
from mediabus.service.ingest.events import (
    RETRYABLE,
    check_source,
    check_type,
    check_unproven_source,
)
from mediabus.service.ingest.http.body import MAX_BODY, TooLarge, read_body
from mediabus.service.ingest.http.replies import answer, refuse
from mediabus.service.ingest.http.tokens import is_authorized, secrets_in

MAX_BATCH: Final = 1000
"""Events of a batch. More would take longer than a connection may last."""

STORE_WITHIN: Final = 4.0
"""Seconds that JetStream has to store an event."""

TOKEN_PARAMETER: Final = "access_token"  # noqa: S105 - the name of a parameter
"""For senders that can only set a URL (CloudEvents HTTP webhook 1.0.2, 3.2)."""

OFF: Final = "POST /events is off: set `token` in [ingest], or MEDIABUS_INGEST_TOKEN"

_decode_batch: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one event. ``unavailable`` means that the sender should send it again."""

    status: Literal["stored", "invalid", "unavailable"]
    id: str | None = None
    reason: str | None = None


class CloudEvents:
    """The endpoint. Without a token, it refuses every request."""

    def __init__(self, bus: Bus, token: str | None) -> None:
        self._bus = bus
        self._token = token

    async def receive(self, request: web.BaseRequest) -> web.StreamResponse:
        """Store the events of a request."""
        if request.method != "POST":
            return refuse(405, "use POST", Allow="POST")
        if self._token is None:
            return refuse(404, OFF)
        given = [*secrets_in(request.headers), *request.query.getall(TOKEN_PARAMETER, [])]
        if not is_authorized(given, self._token):
            return refuse(401, "wrong or missing token", WWW_Authenticate="Bearer")
        try:
            body = await read_body(request)
        except TooLarge:
            return refuse(413, f"the body may have {MAX_BODY} bytes")
        if _is_batch(request.headers):
            return await self._batch(body)
        outcome = await self._store(body, request.headers)
        return answer(_STATUS[outcome.status], outcome)

    async def _batch(self, body: bytes) -> web.Response:
        """Store the events of a batch in their order, each on its own."""
        try:
            events = _decode_batch(body)
        except NOT_JSON as error:
            return refuse(400, f"not a batch of CloudEvents, which is a JSON array: {error}")
        if len(events) > MAX_BATCH:
            return refuse(413, f"a batch may have {MAX_BATCH} events, got {len(events)}")
        outcomes: list[Outcome] = []
        for event in events:
            if outcomes and outcomes[-1].status == "unavailable":
                outcomes.append(outcomes[-1])  # later events of a resource must not overtake it
            else:
                outcomes.append(await self._store(bytes(event), {}))
        return answer(_status_of_batch(outcomes), {"events": outcomes})

    async def _store(self, body: bytes, headers: Mapping[str, str]) -> Outcome:
        try:
            envelope = accepted(body, headers)
            payload = codec.encode(envelope)
        except codec.InvalidEvent as error:
            metrics.HTTP_EVENTS.labels("invalid").inc()
            return Outcome("invalid", reason=str(error))
        tracing.link_to(envelope.extensions)
        outcome = await self._publish(envelope, payload)
        metrics.HTTP_EVENTS.labels(outcome.status).inc()
        return outcome

    async def _publish(self, envelope: Envelope, payload: bytes) -> Outcome:
        if not self._bus.is_connected:
            return Outcome("unavailable", reason="NATS is not connected, send the event again")
        # The prefix keeps senders from making NATS drop an event of mediabus as a duplicate.
        headers = {"Nats-Msg-Id": f"http/{envelope.id}", "Content-Type": codec.CONTENT_TYPE}
        subject = subject_of(envelope)
        try:
            await publish_once(self._bus.js, subject, payload, headers, timeout=STORE_WITHIN)
        except RETRYABLE as error:
            reason = f"NATS did not store the event, send it again: {error_text(error)}"
            return Outcome("unavailable", reason=reason)
        return Outcome("stored", id=envelope.published_id or str(envelope.id))


_STATUS: Final = {"stored": 200, "invalid": 400, "unavailable": 503}


def accepted(body: bytes, headers: Mapping[str, str]) -> Envelope:
    """Return the event of a request. Its actor is claimed, never proven.

    Raises:
        InvalidEvent: the event is invalid, or only mediabus may publish it.
    """
    content_type = headers.get("Content-Type", "")
    if not binary_mode.is_binary(headers) and _is_other_format(content_type):
        raise codec.InvalidEvent(f"events are JSON ({codec.CONTENT_TYPE}), not {content_type}")
    envelope = codec.decode(body, headers)
    check_source(envelope.source)
    check_unproven_source(envelope.source)
    check_type(envelope.type)
    return envelope


def _is_batch(headers: Mapping[str, str]) -> bool:
    return headers.get("Content-Type", "").lower().startswith(binary_mode.BATCH)


def _is_other_format(content_type: str) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type.startswith(binary_mode.STRUCTURED) and media_type not in {
        binary_mode.STRUCTURED,
        codec.CONTENT_TYPE,
    }


def _status_of_batch(outcomes: list[Outcome]) -> int:
    """Return 207 if some events were stored and others were not."""
    found = {outcome.status for outcome in outcomes}
    if "unavailable" in found:
        return 503
    if found <= {"stored"}:
        return 200
    return 400 if found == {"invalid"} else 207

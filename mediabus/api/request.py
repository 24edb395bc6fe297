"""Send a request to a service of mediabus, and decode its reply."""

from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError

from mediabus.api.errors import NoAnswer, OperationFailed
from mediabus.runtime import trace_context
from mediabus.runtime.nats.bus import Bus
from mediabus.schemas.operations.requests import ErrorReply, Problem

ANSWER_WITHIN: Final = 25.0
"""Seconds. A download client may take 20 to accept a download."""

ReplyT = TypeVar("ReplyT")


async def ask(
    bus: Bus,
    subject: str,
    request: object,
    reply_type: type[ReplyT],
    *,
    headers: Mapping[str, str] | None = None,
) -> ReplyT:
    """Return the reply of the service at ``subject``.

    Raises:
        OperationFailed: The service refused the request.
        NoAnswer: No service answered within ``ANSWER_WITHIN`` seconds.
    """
    body = msgspec.json.encode(request)
    sent = {**trace_context.caller(), **(headers or {})}
    try:
        reply = await bus.nc.request(subject, body, timeout=ANSWER_WITHIN, headers=sent or None)
    except NoRespondersError as error:
        raise NoAnswer(
            f"No service answers {subject}. Start `mediabus up`, or the process that serves it: "
            "`mediabus doctor` names the missing process."
        ) from error
    except (NatsTimeoutError, TimeoutError) as error:
        raise NoAnswer(
            f"{subject} did not answer within {ANSWER_WITHIN:.0f} s: is its process, or "
            "PostgreSQL, stuck?"
        ) from error
    except NatsError as error:
        raise NoAnswer(f"Cannot send a request to {subject}: {error}") from error
    if reply.headers and "Nats-Service-Error-Code" in reply.headers:
        raise OperationFailed(_problem(reply.data, reply.headers))
    return msgspec.json.decode(reply.data, type=reply_type)


def _problem(body: bytes, headers: Mapping[str, str]) -> Problem:
    try:
        return msgspec.json.decode(body, type=ErrorReply).error
    except msgspec.DecodeError:
        words = headers.get("Nats-Service-Error", "the service failed")
        return Problem(code=500, reason="failed", message=words)

"""Requests to the services of mediabus, and what to say when there is no good answer."""

from typing import Final, TypeVar

import msgspec
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError

from schemas.commands import ErrorReply
from service.cli.problems import Unanswered
from service.runtime.bus import Bus

ANSWER_WITHIN: Final = 25.0

ReplyT = TypeVar("ReplyT")


async def ask(bus: Bus, subject: str, request: object, reply_type: type[ReplyT]) -> ReplyT:
    """The reply of the service at ``subject``. Raises Unanswered."""
    body = msgspec.json.encode(request)
    try:
        reply = await bus.nc.request(subject, body, timeout=ANSWER_WITHIN)
    except NoRespondersError as error:
        raise Unanswered(
            f"nobody answers {subject}: start `mediabus up`, or the process for it; "
            "`mediabus doctor` says which"
        ) from error
    except (NatsTimeoutError, TimeoutError) as error:
        raise Unanswered(
            f"no answer from {subject} in {ANSWER_WITHIN:.0f} s: does its process, or PostgreSQL, "
            "stand still?"
        ) from error
    except NatsError as error:
        raise Unanswered(f"{subject} cannot be asked: {error}") from error
    if reply.headers and "Nats-Service-Error-Code" in reply.headers:
        raise Unanswered(_why(reply.data, reply.headers))
    return msgspec.json.decode(reply.data, type=reply_type)


def _why(body: bytes, headers: dict[str, str]) -> str:
    try:
        return msgspec.json.decode(body, type=ErrorReply).error.message
    except msgspec.DecodeError:
        return headers.get("Nats-Service-Error", "the service failed")

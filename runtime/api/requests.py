"""Decode and validate requests: the body, the headers and the actor."""

from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from mediabus.runtime.validation_errors import place_and_rule
from mediabus.schemas.decoding import NOT_JSON
from mediabus.schemas.identity import Actor
from mediabus.schemas.operations.requests import (
    ACTOR_ID_HEADER,
    ACTOR_TYPE_HEADER,
    CORRELATION_HEADER,
    IDEMPOTENCY_HEADER,
    MESSAGE_ID_HEADER,
    Problem,
    ProblemCode,
    Request,
)
from mediabus.schemas.trace import TRACEPARENT, TRACESTATE

MAX_REQUEST_BYTES: Final = 1_000_000

LONGEST_KEY: Final = 255

DEFAULT_ACTOR: Final = Actor("system", "api")
"""The actor of a request that names none."""

Headers = Mapping[str, str]
RequestT = TypeVar("RequestT", bound=Request)


class OperationError(Exception):
    """An operation failed and changed nothing. ``problem`` has the reason."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.code} {problem.reason}: {problem.message}")
        self.problem = problem


def problem(code: ProblemCode, reason: str, message: str, field: str | None = None) -> Problem:
    """Build a problem: ``reason`` is for programs, ``message`` for people."""
    return Problem(code=code, reason=reason, message=message, field=field)


def decoded(decoder: msgspec.json.Decoder[RequestT], body: bytes, max_bytes: int) -> RequestT:
    """Decode a request. An empty body is an empty request.

    Raises OperationError, which names the invalid field.
    """
    if len(body) > max_bytes:
        message = f"the request has {len(body)} bytes and may have {max_bytes}"
        raise OperationError(problem(400, "too_large", message))
    try:
        request = decoder.decode(body or b"{}")
        field = _place_of_nul(msgspec.to_builtins(request)) if b"\\u0000" in body else None
    except msgspec.ValidationError as error:
        field, rule = place_and_rule(error)
        message = f"{field}: {rule}" if field else rule
        raise OperationError(problem(400, "invalid_request", message, field)) from error
    except NOT_JSON as error:
        wrong = problem(400, "not_json", f"the request is not JSON in UTF-8: {error}")
        raise OperationError(wrong) from error
    if field is not None:
        message = f"{field} holds the character NUL, which PostgreSQL cannot store"
        raise OperationError(problem(400, "invalid_request", message, field))
    return request


def _place_of_nul(value: object, place: str = "") -> str | None:
    match value:
        case str():
            return place if "\0" in value else None
        case dict():
            inner = ((f"{place}.{name}".lstrip("."), item) for name, item in value.items())
            if any("\0" in name for name in value):
                return place
        case list():
            inner = ((f"{place}[{index}]", item) for index, item in enumerate(value))
        case _:
            return None
    return next((found for where, item in inner if (found := _place_of_nul(item, where))), None)


_KNOWN: Final = {
    name.lower(): name
    for name in (
        *(ACTOR_TYPE_HEADER, ACTOR_ID_HEADER, CORRELATION_HEADER),
        *(IDEMPOTENCY_HEADER, MESSAGE_ID_HEADER),
        *(TRACEPARENT, TRACESTATE),
    )
}


def known_headers(headers: Headers) -> dict[str, str]:
    """Return the headers with the names of known ones in canonical case.

    Raises OperationError for a correlation id that an event cannot carry.
    """
    spelled = {_KNOWN.get(name.lower(), name): value for name, value in headers.items()}
    correlation = spelled.get(CORRELATION_HEADER)
    if correlation is not None and not (0 < len(correlation) <= 1024 and _is_plain(correlation)):
        message = f"{CORRELATION_HEADER} takes 1 to 1024 characters"
        raise OperationError(problem(400, "invalid_header", message, CORRELATION_HEADER))
    return spelled


def key_of(headers: Headers) -> str | None:
    """Return the idempotency key of a request. Raises OperationError if it cannot be stored."""
    name = IDEMPOTENCY_HEADER if IDEMPOTENCY_HEADER in headers else MESSAGE_ID_HEADER
    key = headers.get(name)
    if key is not None and not (0 < len(key) <= LONGEST_KEY and _is_plain(key)):
        message = f"{name} takes 1 to {LONGEST_KEY} printable characters, such as a UUID"
        raise OperationError(problem(400, "invalid_header", message, name))
    return key


def actor_of(headers: Headers) -> Actor:
    """Return the actor of a request. Raises OperationError if its headers are invalid."""
    kind, actor_id = headers.get(ACTOR_TYPE_HEADER), headers.get(ACTOR_ID_HEADER)
    if kind is None and actor_id is None:
        return DEFAULT_ACTOR
    try:
        actor = msgspec.convert({"type": kind, "id": actor_id}, Actor)
    except msgspec.ValidationError as error:
        field = ACTOR_TYPE_HEADER if "`$.type`" in str(error) else ACTOR_ID_HEADER
        message = (
            f"{ACTOR_TYPE_HEADER} (user, system or job) and {ACTOR_ID_HEADER} (1 to 255 "
            "characters) come together: send both or neither"
        )
        raise OperationError(problem(400, "invalid_actor", message, field)) from error
    if not _is_plain(actor.id):
        message = f"{ACTOR_ID_HEADER} has control characters: use plain text"
        raise OperationError(problem(400, "invalid_actor", message, ACTOR_ID_HEADER))
    return actor


def _is_plain(text: str) -> bool:
    """Return whether text has no control characters and no lone surrogates.

    PostgreSQL and UTF-8 cannot store them.
    """
    return text.isprintable()

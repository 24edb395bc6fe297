"""Requests: what is taken, and how a refusal says which field it is about."""

from typing import Any

import msgspec
import pytest

from mediabus.runtime.api.serve import Headers, OperationError, endpoint, problem
from mediabus.schemas.docs.examples import MEDIA_ITEM
from mediabus.schemas.identity import Actor
from mediabus.schemas.operations.registry import OPERATIONS
from mediabus.schemas.operations.requests import (
    ACTOR_ID_HEADER,
    ACTOR_TYPE_HEADER,
    CORRELATION_HEADER,
    CreateMedia,
    Deleted,
    InitiateDownload,
    Problem,
    Request,
    SetMonitored,
    UpdateMedia,
)

ID = str(MEDIA_ITEM)


class Asked:
    """A handler that keeps its requests, and raises a given error."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.request: Request | None = None
        self.actor: Actor | None = None
        self.headers: Headers = {}

    async def __call__(self, request: Request, actor: Actor, headers: Headers) -> Deleted:
        self.request, self.actor, self.headers = request, actor, headers
        if self.error:
            raise self.error
        return Deleted(ids=[])


async def refusal(
    request_type: type[Request], body: Any, headers: Headers | None = None
) -> Problem:
    """The problem with a request, which the handler must never see."""
    asked = Asked()
    encoded = body if isinstance(body, bytes) else msgspec.json.encode(body)
    with pytest.raises(OperationError) as raised:
        await endpoint("x", request_type, asked, max_bytes=10_000).answer(encoded, headers or {})
    assert asked.request is None
    return raised.value.problem


MOVIE = {"type": "movie", "title": "Dune", "year": 2021}
MAGNET = {"title": "Dune", "magnet": "magnet:?xt=urn:btih:c9e1"}


@pytest.mark.parametrize(
    ("request_type", "body", "field", "rule"),
    [
        (CreateMedia, {"type": "movie", "title": "Dune"}, "year", "a movie needs a year"),
        (CreateMedia, {"type": "movie"}, "title", "missing required field"),
        (CreateMedia, {**MOVIE, "year": 1800}, "year", ">= 1801"),
        (CreateMedia, {**MOVIE, "year": "2021"}, "year", "Expected `int | null`, got `str`"),
        (CreateMedia, {**MOVIE, "title": " "}, "title", "matching regex"),
        (CreateMedia, {**MOVIE, "title": "x" * 501}, "title", "<= 500"),
        (CreateMedia, {**MOVIE, "type": "song"}, "type", "Invalid enum value 'song'"),
        (CreateMedia, {**MOVIE, "imdb_id": "438631"}, "imdb_id", "matching regex"),
        (CreateMedia, {**MOVIE, "colour": "sand"}, "colour", "unknown field"),
        (CreateMedia, {**MOVIE, "title": "Du\0ne"}, "title", "NUL"),
        (CreateMedia, {**MOVIE, "metadata": {"a": [{"b": "\0"}]}}, "metadata.a[0].b", "NUL"),
        (CreateMedia, {**MOVIE, "metadata": {"a": {"\0": 1}}}, "metadata.a", "NUL"),
        (UpdateMedia, {"id": ID, "title": None}, "title", "Expected `str`, got `null`"),
        (SetMonitored, {"ids": [ID, 7], "monitored": True}, "ids[1]", "Expected `uuid`"),
        (SetMonitored, {"ids": [], "monitored": True}, "ids", ">= 1"),
        (InitiateDownload, {"title": "Dune"}, "magnet", "not none"),
        (
            InitiateDownload,
            {**MAGNET, "url": "https://x"},
            "magnet",
            "give one of magnet, torrent, nzb, url, not magnet and url",
        ),
        (InitiateDownload, {"title": "Dune", "torrent": "!"}, "torrent", "base64"),
        (InitiateDownload, {"title": "Dune", "url": "file:///etc"}, "url", "matching regex"),
        (SetMonitored, [], None, "Expected `object`, got `array`"),
    ],
)
async def test_a_refusal_names_the_field_and_the_rule(
    request_type: type[Request], body: Any, field: str | None, rule: str
) -> None:
    wrong = await refusal(request_type, body)
    assert (wrong.code, wrong.reason, wrong.field) == (400, "invalid_request", field)
    assert rule in wrong.message
    assert wrong.message.startswith(field or rule)
    assert "$" not in wrong.message.replace("\\d", "").replace("$'", "")


NUL_IN_A_WELL = b'{"type": "tv_show", "title": "x", "metadata": {"a": %b"\\u0000"%b}}' % (
    b"[" * 900,
    b"]" * 900,
)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "not_json"),
        (b"\x00", "not_json"),
        (b'{"title": "\xff"}', "not_json"),
        (b'{"metadata": ' + b'{"a":' * 1900 + b"1", "not_json"),
        (NUL_IN_A_WELL, "not_json"),
        (b" " * 10_001, "too_large"),
    ],
)
async def test_a_body_that_is_not_a_request_is_refused(body: bytes, reason: str) -> None:
    wrong = await refusal(CreateMedia, body)
    assert (wrong.code, wrong.reason, wrong.field) == (400, reason, None)


async def test_an_escaped_backslash_before_u0000_is_not_nul() -> None:
    asked = Asked()
    body = msgspec.json.encode({**MOVIE, "title": r"a\u0000b"})
    await endpoint("x", CreateMedia, asked).answer(body, {})
    assert asked.request == CreateMedia(type="movie", title=r"a\u0000b", year=2021)


@pytest.mark.parametrize(
    "source", [{"torrent": b"d4:infode"}, {"magnet": MAGNET["magnet"]}, {"url": "http://x/y"}]
)
async def test_exactly_one_source_is_accepted(source: dict[str, Any]) -> None:
    asked = Asked()
    body = msgspec.json.encode({"title": "Dune", **source})
    await endpoint("x", InitiateDownload, asked).answer(body, {})
    assert asked.request == InitiateDownload(title="Dune", **source)


async def test_the_actor_is_that_of_the_headers_or_the_api() -> None:
    asked = Asked()
    answer = endpoint("x", CreateMedia, asked).answer
    await answer(msgspec.json.encode(MOVIE), {})
    assert asked.actor == Actor("system", "api")
    headers = {
        "mediabus-actor-type": "user",
        "MEDIABUS-ACTOR-ID": "Zoë",
        "Mediabus-Correlation-Id": "c-1",
        "X-Other": "kept",
    }
    await answer(msgspec.json.encode(MOVIE), headers)
    assert asked.actor == Actor("user", "Zoë")
    assert asked.headers[CORRELATION_HEADER] == "c-1"
    assert asked.headers["X-Other"] == "kept"


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({ACTOR_TYPE_HEADER: "user"}, ACTOR_ID_HEADER),
        ({ACTOR_ID_HEADER: "42"}, ACTOR_TYPE_HEADER),
        ({ACTOR_TYPE_HEADER: "robot", ACTOR_ID_HEADER: "42"}, ACTOR_TYPE_HEADER),
        ({ACTOR_TYPE_HEADER: "user", ACTOR_ID_HEADER: ""}, ACTOR_ID_HEADER),
        ({ACTOR_TYPE_HEADER: "user", ACTOR_ID_HEADER: "4" * 256}, ACTOR_ID_HEADER),
        ({ACTOR_TYPE_HEADER: "user", ACTOR_ID_HEADER: "4\0002"}, ACTOR_ID_HEADER),
        ({ACTOR_TYPE_HEADER: "user", ACTOR_ID_HEADER: "\udcff"}, ACTOR_ID_HEADER),
        ({CORRELATION_HEADER: ""}, CORRELATION_HEADER),
        ({CORRELATION_HEADER: "c" * 1025}, CORRELATION_HEADER),
        ({CORRELATION_HEADER: "\udcff"}, CORRELATION_HEADER),
    ],
)
async def test_headers_that_an_event_could_not_carry_are_refused(
    headers: dict[str, str], field: str
) -> None:
    wrong = await refusal(CreateMedia, MOVIE, headers)
    assert (wrong.code, wrong.field) == (400, field)


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (OperationError(problem(409, "duplicate", "have it")), 409, "duplicate"),
        (ConnectionRefusedError("5432"), 503, "database_away"),
        (ZeroDivisionError("secret"), 500, "internal"),
    ],
)
async def test_an_exception_of_a_handler_becomes_a_code(
    error: Exception, code: int, reason: str
) -> None:
    with pytest.raises(OperationError) as raised:
        await endpoint("x", CreateMedia, Asked(error)).answer(msgspec.json.encode(MOVIE), {})
    assert (raised.value.problem.code, raised.value.problem.reason) == (code, reason)
    assert "secret" not in raised.value.problem.message


@pytest.mark.parametrize("subject", OPERATIONS)
def test_the_docstring_of_each_request_names_its_operations(subject: str) -> None:
    request, _ = OPERATIONS[subject]
    assert f"``{subject}``" in (request.__doc__ or "")

"""Dead letters are listed, inspected, retried and discarded over NATS."""

import json
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import pytest

from mediabus.api.errors import OperationFailed
from mediabus.api.request import ask
from mediabus.consumers.dead_letter_operations import MAX_BODY, serve_dead_letters
from mediabus.runtime.nats.bus import Bus
from mediabus.schemas import dead_letter_headers
from mediabus.schemas.operations.dead_letters import (
    DeadLetterMessage,
    DeadLetterPage,
    DeadLettersHandled,
)
from mediabus.schemas.subjects import DEAD_LETTERS_STREAM, EVENTS_STREAM, dead_letter_subject
from tests.support.stream import messages

ReplyT = TypeVar("ReplyT")
SUBJECT = "events.system.job.executed.-"


@pytest.fixture
async def served(bus: Bus) -> AsyncIterator[Bus]:
    async with serve_dead_letters(bus):
        yield bus


async def add_letter(
    bus: Bus, number: int, *, consumer: str = "mine", reason: str = "no", body: bytes = b"{}"
) -> None:
    headers = dead_letter_headers.addressed(
        {"Nats-Msg-Id": f"id-{number}"},
        consumer=consumer,
        kind="rejected",
        reason=reason,
        subject=SUBJECT,
        stream=EVENTS_STREAM,
        stream_seq=number,
        deliveries=1,
    )
    await bus.js.publish(dead_letter_subject(consumer, "rejected"), body, headers=headers)


async def listed(bus: Bus, **request: Any) -> DeadLetterPage:
    return await ask(bus, "dead.list", request, DeadLetterPage)


async def handled(bus: Bus, operation: str, *numbers: int) -> DeadLettersHandled:
    return await ask(bus, operation, {"numbers": numbers}, DeadLettersHandled)


async def test_dead_letters_are_listed_newest_first_page_by_page(served: Bus) -> None:
    for number in range(1, 6):
        await add_letter(served, number)
    first = await listed(served, limit=2)
    assert ([letter.number for letter in first.items], first.total) == ([5, 4], 5)
    second = await listed(served, limit=2, after=first.next)
    last = await listed(served, limit=2, after=second.next)
    assert [letter.number for letter in (*second.items, *last.items)] == [3, 2, 1]
    assert last.next is None


async def test_a_list_is_filtered(served: Bus) -> None:
    await add_letter(served, 1, consumer="mine")
    await add_letter(served, 2, consumer="other", reason="Wrong Color")
    page = await listed(served, reason="color")
    assert ([letter.consumer for letter in page.items], page.total) == (["other"], 2)
    assert (await listed(served, consumer="nothing")).items == []


async def test_a_page_of_long_reasons_fits_into_a_reply(served: Bus) -> None:
    for number in range(1, 8):
        await add_letter(served, number, reason="r" * 200_000)
    seen, after = [], None
    while True:
        page = await listed(served, limit=7, **({"after": after} if after else {}))
        seen += [letter.number for letter in page.items]
        if not (after := page.next):
            break
    assert seen == [7, 6, 5, 4, 3, 2, 1]


async def test_the_body_is_shown_as_text_and_cut(served: Bus) -> None:
    await add_letter(served, 1, body=b'{"a": "\xff"}')
    await add_letter(served, 2, body=b"\0" * (MAX_BODY + 5))
    shown = await ask(served, "dead.get", {"number": 1}, DeadLetterMessage)
    assert (shown.body, shown.size, shown.letter.subject) == (r'{"a": "\xff"}', 10, SUBJECT)
    long = await ask(served, "dead.get", {"number": 2}, DeadLetterMessage)
    assert len(long.body) < long.size == MAX_BODY + 5


async def test_a_retry_publishes_the_message_and_removes_the_dead_letter(
    served: Bus,
) -> None:
    await add_letter(served, 1, body=b'{"one": 1}')
    await add_letter(served, 2)
    result = await handled(served, "dead.retry", 1, 99)
    assert result.done == [1]
    assert [(failure.number, "does not exist" in failure.message) for failure in result.failed] == [
        (99, True)
    ]
    assert [json.loads(message.data or b"") for message in await messages(served)] == [{"one": 1}]
    assert [letter.number for letter in (await listed(served)).items] == [2]


async def test_discarded_dead_letters_are_deleted(served: Bus) -> None:
    for number in range(1, 4):
        await add_letter(served, number)
    assert (await handled(served, "dead.discard", 1, 3, 3)).done == [1, 3]
    assert [letter.number for letter in (await listed(served)).items] == [2]


@pytest.mark.parametrize(
    ("operation", "request_", "code", "field"),
    [
        ("dead.get", {"number": 7}, 404, "number"),
        ("dead.get", {"number": 0}, 400, "number"),
        ("dead.list", {"after": "x"}, 400, "after"),
        ("dead.list", {"kinds": "x"}, 400, "kinds"),
        ("dead.retry", {"numbers": []}, 400, "numbers"),
        ("dead.discard", {"numbers": list(range(1, 102))}, 400, "numbers"),
    ],
)
async def test_a_bad_request_names_its_field(
    served: Bus, operation: str, request_: dict[str, Any], code: int, field: str
) -> None:
    with pytest.raises(OperationFailed) as refused:
        await ask(served, operation, request_, DeadLetterPage)
    assert (refused.value.code, refused.value.field) == (code, field)


async def test_a_missing_stream_is_reported(served: Bus) -> None:
    await served.js.delete_stream(DEAD_LETTERS_STREAM)
    with pytest.raises(OperationFailed) as refused:
        await listed(served)
    assert (refused.value.code, refused.value.reason) == (503, "nats_away")

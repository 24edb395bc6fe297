"""Ask the services, and wait no longer than a page may take."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final, TypeVar

from mediabus.api.errors import NoAnswer
from mediabus.api.request import ask
from mediabus.runtime.nats.bus import Bus
from mediabus.schemas.operations.requests import HistoryEvent, Page

ANSWER_WITHIN: Final = 4.0
"""Seconds. A page that says what is missing is more useful than a late one."""

MOST: Final = 500
"""Events on a page of the history."""

ReplyT = TypeVar("ReplyT")


async def read(bus: Bus, subject: str, request: object, reply_type: type[ReplyT]) -> ReplyT:
    """Return a reply. Raises OperationFailed and NoAnswer."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            return await ask(bus, subject, request, reply_type)
    except TimeoutError as error:
        raise NoAnswer(f"{subject} did not answer within {ANSWER_WITHIN:.0f} s.") from error


async def history_page(
    bus: Bus, matching: dict[str, Any], *, limit: int, after: str = ""
) -> Page[HistoryEvent]:
    """Return a page of events, newest first. Raises OperationFailed and NoAnswer."""
    request = {**matching, "limit": limit, **({"after": after} if after else {})}
    return await read(bus, "history.list", request, Page[HistoryEvent])


async def history_pages(bus: Bus, matching: dict[str, Any]) -> AsyncIterator[list[HistoryEvent]]:
    """Yield all events, newest first. Raises OperationFailed and NoAnswer."""
    after: str | None = ""
    while after is not None:
        page = await history_page(bus, matching, limit=MOST, after=after)
        yield page.items
        after = page.next

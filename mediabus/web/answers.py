"""Wait for replies no longer than a page may take."""

import asyncio
from collections.abc import Awaitable
from typing import Final, TypeVar

from mediabus.api.errors import NoAnswer, OperationFailed

READ_WITHIN: Final = 3.0
"""Seconds. A page without an answer is more useful than a late one."""

ReplyT = TypeVar("ReplyT")


async def reply_or_none(asking: Awaitable[ReplyT]) -> ReplyT | None:
    """Return the reply, or None if the service refuses or does not answer in time."""
    try:
        async with asyncio.timeout(READ_WITHIN):
            return await asking
    except (NoAnswer, OperationFailed, TimeoutError):
        return None

"""Python 3.12's ``asyncio.wait_for`` for Python 3.11.

The one of 3.11 loses a cancellation that arrives while its future is already done: a process that
is asked to leave goes on. nats-py calls it in every request. asyncpg carries
the same backport for itself. Goes when Python 3.11 does.
"""

import asyncio
import sys
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def wait_for(fut: Awaitable[T], timeout: float | None) -> T:
    """Waits for ``fut``, at most ``timeout`` seconds; cancels it then and raises TimeoutError."""
    if timeout is not None and timeout <= 0:
        future = asyncio.ensure_future(fut)
        if not future.done():
            future.cancel()
            await asyncio.wait([future])
            if future.cancelled():
                raise TimeoutError
        return future.result()
    async with asyncio.timeout(timeout):
        return await fut


if sys.version_info < (3, 12):
    asyncio.wait_for = wait_for  # type: ignore[assignment]

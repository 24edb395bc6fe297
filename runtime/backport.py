"""Python 3.12's ``asyncio.wait_for`` for Python 3.11.

Python 3.11's version loses a cancellation that arrives when its future is already done, so a
process that should shut down keeps running. nats-py calls it in every request; asyncpg has a
backport of its own. Remove this with support for Python 3.11.
"""

import asyncio
import sys
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def wait_for(fut: Awaitable[T], timeout: float | None) -> T:
    """Wait for ``fut``. After ``timeout`` seconds, cancel it and raise TimeoutError."""
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

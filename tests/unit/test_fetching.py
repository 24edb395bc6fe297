"""The thread that fetches URLs ends without leaving anything behind."""

import asyncio

from mediabus.service.operations.fetching import open_fetches


async def test_fetches_that_close_slowly_are_waited_for() -> None:
    """Closing a connection takes a while on a busy machine."""
    ended: list[str] = []

    async def fetch() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.3)
            ended.append("closed")

    async with open_fetches() as fetches:
        asyncio.run_coroutine_threadsafe(fetch(), fetches._loop)
        await asyncio.sleep(0.05)
    assert ended == ["closed"]
    assert fetches._loop.is_closed()

"""Waiting for something, with a timeout, loses no cancellation."""

import asyncio

import pytest

from mediabus.runtime.backport import wait_for


async def test_a_cancellation_wins_over_an_available_result() -> None:
    done: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        await asyncio.wait_for(done, timeout=10)
        await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    done.set_result("done")
    task.cancel()
    await asyncio.wait([task], timeout=1)
    assert task.cancelled()


async def test_wait_for_returns_the_result_or_times_out() -> None:
    async def soon() -> str:
        return "done"

    never: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    assert await wait_for(soon(), 1) == "done"
    assert await wait_for(soon(), None) == "done"
    with pytest.raises(TimeoutError):
        await wait_for(never, 0.01)
    assert never.cancelled()


async def test_without_time_an_available_result_is_returned() -> None:
    loop = asyncio.get_running_loop()
    done, never = loop.create_future(), loop.create_future()
    done.set_result("done")
    assert await wait_for(done, 0) == "done"
    with pytest.raises(TimeoutError):
        await wait_for(never, 0)
    assert never.cancelled()

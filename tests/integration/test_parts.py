"""A part of mediabus that ends although nobody told it to ends its process, which says so; how a
process is, it says while its parts are busy too."""

import asyncio
import contextlib

import aiohttp
import msgspec
import pytest

from service.cli.parts import Part, PartEnded, working
from service.runtime.bus import Bus
from service.runtime.database import Pool
from service.runtime.settings import HttpSettings, Settings
from tests.support.ports import free_port


async def returns(_: Bus, __: Pool, ___: Settings) -> None:
    """Nothing is left to do, it thinks."""


async def is_cancelled(_: Bus, __: Pool, ___: Settings) -> None:
    """As if what a library does to itself had come out of it."""
    raise asyncio.CancelledError


async def goes_on(_: Bus, __: Pool, ___: Settings) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (returns, "returns ended by itself"),
        (is_cancelled, "is_cancelled was cancelled by nobody"),
    ],
)
async def test_a_part_that_ends_is_a_fault_and_named(
    settings: Settings, part: Part, words: str
) -> None:
    with pytest.raises(ExceptionGroup) as found:
        async with working(settings, 0, (part, goes_on)) as work:
            await asyncio.wait_for(work, 10)
    assert [(type(error), str(error)) for error in found.value.exceptions] == [(PartEnded, words)]


async def test_parts_that_are_left_end_without_a_word(settings: Settings) -> None:
    async with working(settings, 0, (goes_on, goes_on)) as work:
        await asyncio.wait([work], timeout=0.2)
        assert not work.done()
    assert work.cancelled()


async def test_whether_it_is_ready_is_said_though_no_connection_is_free(settings: Settings) -> None:
    """As behind statements that hang: a supervisor would wait with them."""
    all_taken = asyncio.Event()

    async def takes_all(_: Bus, pool: Pool, __: Settings) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for _number in range(pool.get_max_size()):
                await stack.enter_async_context(pool.acquire())
            all_taken.set()
            await asyncio.Event().wait()

    port = free_port()
    here = msgspec.structs.replace(settings, http=HttpSettings(port=port))
    async with working(here, 0, (takes_all,)), aiohttp.ClientSession() as session:
        await asyncio.wait_for(all_taken.wait(), 10)
        async with asyncio.timeout(20):
            answer = await session.get(f"http://127.0.0.1:{port}/readyz")
        assert (answer.status, await answer.text()) == (503, "postgresql: no answer within 2 s\n")

"""A part of mediabus that ends although nobody told it to ends its process, which says so."""

import asyncio

import pytest

from service.cli.parts import Part, PartEnded, working
from service.runtime.bus import Bus
from service.runtime.database import Pool
from service.runtime.settings import Settings


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

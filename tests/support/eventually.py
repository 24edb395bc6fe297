"""Waiting for a fact with a deadline, in place of sleeping and hoping."""

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine
from typing import TypeVar, overload

T = TypeVar("T")


@overload
async def eventually(
    condition: Callable[[], Coroutine[None, None, T | None]],
    *,
    within: float = ...,
    every: float = ...,
) -> T: ...


@overload
async def eventually(
    condition: Callable[[], T | None], *, within: float = ..., every: float = ...
) -> T: ...


async def eventually(
    condition: Callable[[], object], *, within: float = 10.0, every: float = 0.05
) -> object:
    """The first truthy value of ``condition``, asked again every ``every`` seconds.

    Fails after ``within`` seconds with the condition's name and its last value. An exception of the
    condition's is not swallowed.
    """
    deadline = time.monotonic() + within
    while True:
        answer = condition()
        value: object = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if time.monotonic() > deadline:
            name = getattr(condition, "__qualname__", repr(condition))
            raise AssertionError(f"not within {within:g} s: {name}, which last gave {value!r}")
        await asyncio.sleep(every)

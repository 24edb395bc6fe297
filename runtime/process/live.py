"""A part of the settings that a reload may replace while a process works with it."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Generic, TypeVar

T = TypeVar("T")


class Live(Generic[T]):
    """A value, and the wait for the next one."""

    def __init__(self, value: T) -> None:
        self._value = value
        self._replaced = asyncio.Event()

    @property
    def value(self) -> T:
        """The value in force."""
        return self._value

    def replace(self, value: T) -> None:
        """Replace the value."""
        self._value = value
        self._replaced.set()
        self._replaced = asyncio.Event()

    async def values(self) -> AsyncGenerator[T]:
        """Yield the value in force, and then each newer one, without end.

        Of several that came while the last one was in use, only the newest is yielded.
        """
        while True:
            replaced = self._replaced
            yield self._value
            await replaced.wait()

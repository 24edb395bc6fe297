"""Keep a task running for each table of an array of tables, such as ``[[clients]]``."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")


class Units(Generic[T]):
    """One task for each table, by name. New settings stop and start only what differs."""

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        run: Callable[[T], Coroutine[Any, Any, None]],
        *,
        name: str,
    ) -> None:
        self._tasks = tasks
        self._run = run
        self._name = name
        self._running: Final[dict[str, tuple[T, asyncio.Task[None]]]] = {}

    async def apply(self, wanted: Mapping[str, T]) -> None:
        """Stop the tasks of tables that are gone or differ, then start the missing ones."""
        await self.stop_stale(wanted)
        self.start_missing(wanted)

    async def stop_stale(self, wanted: Mapping[str, T]) -> list[str]:
        """Stop the tasks whose tables are gone or differ. Returns their names once they ended."""
        stale = [name for name, (table, _) in self._running.items() if wanted.get(name) != table]
        ending = [self._running.pop(name)[1] for name in stale]
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)
        return stale

    def start_missing(self, wanted: Mapping[str, T]) -> None:
        """Start a task for each table that has none."""
        for name, table in wanted.items():
            if name not in self._running:
                task = self._tasks.create_task(self._run(table), name=f"{self._name} {name}")
                self._running[name] = table, task

"""Notice that the settings should be loaded again: after a signal, or when their file changes."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Final

from mediabus.runtime.text_files import MAX_BYTES, expanded

POLL_EVERY: Final = 2.0
"""Seconds between two looks at the file."""

SAME_FOR: Final = 0.3
"""Seconds for which a changed file must stay the same: an editor may be writing it."""


class SettingsWatch:
    """The settings file. Its content is compared, so neither a rename nor a coarse clock hides it.

    ``find`` returns its path, or None while there is no file. Then only requests count.
    """

    def __init__(self, find: Callable[[], str | None]) -> None:
        self._find = find
        self._content: bytes | str | None = None
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Load the settings again now, whether or not the file has changed."""
        self._asked.set()

    async def changes(self) -> AsyncGenerator[bool]:
        """Yield each time that the settings should be loaded: whether this was asked for.

        Yields first after at most ``POLL_EVERY`` seconds, because the file may have changed while
        the process waited for its servers.
        """
        while True:
            was_asked, before = await self._was_asked(), self._content
            if was_asked or await self._read() != before:
                self._content = await self._read_when_written()
                if was_asked or self._content != before:
                    yield was_asked

    async def _was_asked(self) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._asked.wait(), POLL_EVERY)
        was_asked = self._asked.is_set()
        self._asked.clear()
        return was_asked

    async def _read_when_written(self) -> bytes | str | None:
        """Return the content of the file once it has stayed the same."""
        content = await self._read()
        while True:
            before = content
            await asyncio.sleep(SAME_FOR)
            if before == (content := await self._read()):
                return content

    async def _read(self) -> bytes | str | None:
        """Return the content of the file, or why it cannot be read; None without a file."""
        return await asyncio.to_thread(_content, self._find)


def _content(find: Callable[[], str | None]) -> bytes | str | None:
    if (path := find()) is None:
        return None
    try:
        with Path(expanded(path)).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        return str(error)

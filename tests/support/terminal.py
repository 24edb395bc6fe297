"""A shell on a terminal, into which a reader of the documents pastes."""

import contextlib
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

PASTED: Final = "\x1e"
"""What the shell prints after a block (the character "record separator")."""

COLOURS: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A bash that stops at the first command that fails. ``opened`` makes it."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._screen, inner = os.openpty()
        self._shell = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "-euo", "pipefail"],
            cwd=folder,
            env={**environment},
            stdin=subprocess.PIPE,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
        )
        os.close(inner)
        self.shown = ""

    def paste(self, text: str, *, within: float = 60.0) -> str:
        """Run a block to its end and return what it prints. Fails if a command of it fails."""
        before = len(self.shown)
        self.begin(f"{text}\nprintf '{PASTED}'\n")
        self.wait_for(PASTED, since=before, within=within)
        return self.shown[before:].partition(PASTED)[0]

    def begin(self, text: str) -> None:
        """Paste a block and do not wait for its end."""
        assert self._shell.stdin
        self._shell.stdin.write(text.encode())
        self._shell.stdin.flush()

    def wait_for(self, text: str, *, since: int = 0, within: float = 60.0) -> None:
        """Wait until the terminal shows a text. Fails at the end of the shell, or in time."""
        deadline = time.monotonic() + within
        while text not in self.shown[since:]:
            left = deadline - time.monotonic()
            assert left > 0, f"not within {within:g} s: {text!r}\n{self.shown[since:]}"
            if select.select([self._screen], [], [], left)[0]:
                read = self._read()
                assert read, f"a command failed:\n{self.shown[since:]}"
                self.shown += read

    def _read(self) -> str:
        with contextlib.suppress(OSError):  # EIO: no process has the terminal any more
            return COLOURS.sub("", os.read(self._screen, 65536).decode(errors="replace"))
        return ""

    def interrupt(self, *, within: float = 30.0) -> None:
        """Press Ctrl-C, and wait for the end of the shell and all that it runs."""
        os.killpg(self._shell.pid, signal.SIGINT)
        deadline = time.monotonic() + within
        while select.select([self._screen], [], [], max(0, deadline - time.monotonic()))[0]:
            if not (read := self._read()):
                break
            self.shown += read
        self._shell.wait(max(1, deadline - time.monotonic()))

    def close(self) -> None:
        """Kill what runs here."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGKILL)
        self._shell.wait()
        assert self._shell.stdin
        with contextlib.suppress(BrokenPipeError):
            self._shell.stdin.close()
        os.close(self._screen)


@contextlib.contextmanager
def opened(folder: Path, environment: Mapping[str, str]) -> Iterator[Terminal]:
    """Open a terminal in a folder, and close it at the end."""
    terminal = Terminal(folder, environment)
    try:
        yield terminal
    finally:
        terminal.close()

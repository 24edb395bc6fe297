"""Start, stop, kill and suspend a server or a process of mediabus, with its child processes."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil

STOP_TIMEOUT: Final = 15.0
"""Seconds that a program has to stop before it is killed."""
MAX_LAST_LINES: Final = 20
"""Lines of the log that an ending keeps."""


@dataclasses.dataclass(frozen=True)
class Ending:
    """The unexpected end of a program.

    ``code`` is its exit code, or the negative number of the signal. ``last_lines`` are the end of
    its log.
    """

    name: str
    code: int
    last_lines: list[str]

    def __str__(self) -> str:
        return "\n    ".join(
            [f"{self.name}, exit code {self.code}; the last lines of its log:", *self.last_lines]
        )


class Unit:
    """A program that is kept running.

    ``is_wanted`` is true while it should run. ``endings`` are its unexpected ends.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        user: str | None = None,
        environment: Mapping[str, str] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.log = log
        self.is_wanted = False
        self.endings: list[Ending] = []
        self._command = command
        self._user = user
        self._environment = {**os.environ, **(environment or {})}
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def start(self) -> None:
        """Start the program without waiting until it is ready."""
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=self._user,
                env=self._environment,
                start_new_session=True,  # Ctrl-C in the terminal must not reach it
            )
        self.is_wanted = True

    def log_since_start(self) -> bytes:
        """Return the log since the last start."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read()

    def processes(self) -> list[psutil.Process]:
        """Return the process and its children. PostgreSQL has one for each connection."""
        with contextlib.suppress(psutil.NoSuchProcess):
            if not self.has_ended:
                main = psutil.Process(self.pid)
                return [main, *main.children(recursive=True)]
        return []

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and its children."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def rss(self) -> int:
        """Return the resident memory in bytes; memory shared with children counts once."""
        total = 0
        for number, process in enumerate(self.processes()):
            with contextlib.suppress(psutil.NoSuchProcess):
                memory = process.memory_info()
                total += memory.rss - (memory.shared if number else 0)
        return total

    def kill(self) -> None:
        """Kill the process and its children with SIGKILL."""
        self._note_unexpected_end()
        self.is_wanted = False
        if not self.has_ended:
            os.kill(self.pid, signal.SIGSTOP)  # so that it starts no more children
            self._wait_until_stopped()
        family = self.processes()
        for process in reversed(family):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self._process:
            self._process.wait()
        psutil.wait_procs(family, timeout=STOP_TIMEOUT)

    def _wait_until_stopped(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            gone = {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
            while psutil.Process(self.pid).status() not in gone:
                time.sleep(0.001)

    def stop(self) -> None:
        """Ask the program to stop, and kill it if it does not in time."""
        self._note_unexpected_end()
        self.is_wanted = False
        if self._process and not self.has_ended:
            self._process.send_signal(self._stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT)
        self.kill()

    def keep(self) -> bool:
        """Restart the program if it ended unexpectedly, and return whether it did."""
        if self._note_unexpected_end():
            self.start()
            return True
        return False

    def _note_unexpected_end(self) -> bool:
        """Return whether the program ended unexpectedly, and add that to ``endings``."""
        if not (self.is_wanted and self._process and self._process.poll() is not None):
            return False
        self.is_wanted = False
        last_lines = self.log_since_start().decode(errors="replace").splitlines()[-MAX_LAST_LINES:]
        self.endings.append(Ending(self.name, self._process.returncode, last_lines))
        return True

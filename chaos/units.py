"""What runs: one server or one process of mediabus, started, stopped, killed and stopped in time,
with all the processes that it is made of."""

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

LEAVES_WITHIN: Final = 15.0
LAST_LINES: Final = 20


@dataclasses.dataclass(frozen=True)
class Ending:
    """How a program ended that nobody had told to: ``code`` is its exit code, below 0 the signal;
    ``words`` are the last lines of its log."""

    name: str
    code: int
    words: list[str]

    def __str__(self) -> str:
        return "\n    ".join([f"{self.name}, with {self.code}; its last words:", *self.words])


class Unit:
    """A program that is kept running: ``is_wanted`` says whether it should run now, ``endings``
    how it ended whenever it did although it should."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        user: str | None = None,
        environment: Mapping[str, str] | None = None,
        leave_by: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.log = log
        self.is_wanted = False
        self.endings: list[Ending] = []
        self._command = command
        self._user = user
        self._environment = {**os.environ, **(environment or {})}
        self._leave_by = leave_by
        self._process: subprocess.Popen[bytes] | None = None
        self._said_before = 0

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def start(self) -> None:
        """Starts it, and does not wait for more."""
        self._said_before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=self._user,
                env=self._environment,
                start_new_session=True,  # an interrupt from the keyboard is not for it
            )
        self.is_wanted = True

    def said(self) -> bytes:
        """Its log since it was started last."""
        with self.log.open("rb") as log:
            log.seek(self._said_before)
            return log.read()

    def processes(self) -> list[psutil.Process]:
        """Itself and its children. PostgreSQL has one for each connection."""
        with contextlib.suppress(psutil.NoSuchProcess):
            if not self.has_ended:
                main = psutil.Process(self.pid)
                return [main, *main.children(recursive=True)]
        return []

    def signal(self, number: signal.Signals) -> None:
        """Signals it and its children."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def rss(self) -> int:
        """Bytes of memory that are resident; what its children share with it counts once."""
        total = 0
        for number, process in enumerate(self.processes()):
            with contextlib.suppress(psutil.NoSuchProcess):
                memory = process.memory_info()
                total += memory.rss - (memory.shared if number else 0)
        return total

    def kill(self) -> None:
        """Ends it and its children at once: kill -9."""
        self._is_found_ended()
        self.is_wanted = False
        if not self.has_ended:
            os.kill(self.pid, signal.SIGSTOP)  # or it would have one more child meanwhile
            self._wait_until_stopped()
        family = self.processes()
        for process in reversed(family):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self._process:
            self._process.wait()
        psutil.wait_procs(family, timeout=LEAVES_WITHIN)

    def _wait_until_stopped(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            gone = {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
            while psutil.Process(self.pid).status() not in gone:
                time.sleep(0.001)

    def stop(self) -> None:
        """Asks it to leave; by force when it stays."""
        self._is_found_ended()
        self.is_wanted = False
        if self._process and not self.has_ended:
            self._process.send_signal(self._leave_by)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(LEAVES_WITHIN)
        self.kill()

    def keep(self) -> bool:
        """Starts it again if it ended although it is wanted, as systemd would, and says so."""
        if self._is_found_ended():
            self.start()
            return True
        return False

    def _is_found_ended(self) -> bool:
        """Whether it ended although it is wanted; notes it then."""
        if not (self.is_wanted and self._process and self._process.poll() is not None):
            return False
        self.is_wanted = False
        words = self.said().decode(errors="replace").splitlines()[-LAST_LINES:]
        self.endings.append(Ending(self.name, self._process.returncode, words))
        return True

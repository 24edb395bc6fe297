"""A program of the user: it reads the CloudEvent on its standard input."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mediabus.consumers.notifier.targets.port import Failed, Message
from mediabus.consumers.notifier.targets.webhook import body_of

MAX_OUTPUT: Final = 2048
"""Bytes of a program's output that are kept for the reason of a failure."""

CLEAN: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
}
"""The environment of a program: that of mediabus may hold passwords."""


class Program:
    """A program and its arguments, started for each message, without a shell."""

    def __init__(self, command: Sequence[str], *, timeout: float) -> None:
        if not command or not Path(command[0]).is_absolute():
            raise ValueError("run takes the absolute path of a program, and its arguments")
        self._command = command
        self._timeout = timeout

    async def close(self) -> None:
        """Do nothing: no program outlives its message."""

    async def send(self, message: Message) -> str:
        """Run the program. Exit status 0 accepts the message. Raises Failed."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=CLEAN | environment(message),
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise Failed(f"cannot run {self._command[0]}: {error.strerror}") from error
        output = _Output()
        reading = asyncio.create_task(output.read(process.stdout), name="program output")
        writing = asyncio.create_task(_write(process.stdin, body_of(message)), name="program input")
        try:
            async with asyncio.timeout(self._timeout):
                status = await process.wait()
        except TimeoutError as error:
            raise Failed(f"the program did not end within {self._timeout:g} s") from error
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its children have its group
            await process.wait()
            await output.finish(reading)
            writing.cancel()
        if status:
            raise Failed(f"the program ended with status {status}: {output.text}".rstrip(": "))
        return "exit status 0"


def environment(message: Message) -> dict[str, str]:
    """Return the variables that describe a message."""
    return {
        "MEDIABUS_ID": message.id,
        "MEDIABUS_TYPE": message.envelopes[0].type.replace("\0", ""),
        "MEDIABUS_COUNT": str(len(message.envelopes)),
        "MEDIABUS_TEXT": message.text.replace("\0", ""),
    }


async def _write(stdin: asyncio.StreamWriter | None, body: bytes) -> None:
    """Write the event. A program need not read it."""
    if stdin is not None:
        with contextlib.suppress(OSError):
            stdin.write(body)
            await stdin.drain()
        stdin.close()


class _Output:
    """The beginning of what a program writes. The rest is read and dropped."""

    def __init__(self) -> None:
        self._kept = b""

    async def read(self, stdout: asyncio.StreamReader | None) -> None:
        """Read until the end, so that a full pipe does not stop the program."""
        while stdout is not None and (chunk := await stdout.read(65_536)):
            self._kept = (self._kept + chunk)[:MAX_OUTPUT]

    async def finish(self, reading: "asyncio.Task[None]") -> None:
        """Wait a moment for the last output. A process that left the group may hold the pipe."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reading, timeout=0.5)

    @property
    def text(self) -> str:
        return self._kept.decode(errors="replace")

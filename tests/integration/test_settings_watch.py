"""When the settings are loaded again: on SIGHUP, and when the content of their file has changed."""

import asyncio
import contextlib
import os
import pty
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mediabus.runtime.process import settings_watch
from mediabus.runtime.process.live import Live
from mediabus.runtime.process.settings_watch import SettingsWatch
from mediabus.runtime.process.units import Units
from tests.support.commands import PROGRAM, environment
from tests.support.eventually import eventually
from tests.support.ports import free_port


class File:
    """A settings file, at first with the content ``a``."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "mediabus.toml"
        self.write("a")

    def read(self) -> str:
        return self.path.read_text() if self.path.exists() else "missing"

    def write(self, text: str) -> None:
        self.path.write_text(text)

    def write_unnoticed(self, text: str) -> None:
        """Write text of the same size, and keep the time of the file."""
        before = self.path.stat()
        self.write(text)
        os.utime(self.path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def replace(self, text: str) -> None:
        half = self.path.with_name("half")
        half.write_text(text)
        half.replace(self.path)

    def remove(self) -> None:
        self.path.touch()
        self.path.unlink()


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> File:
    monkeypatch.setattr(settings_watch, "POLL_EVERY", 0.02)
    monkeypatch.setattr(settings_watch, "SAME_FOR", 0.2)
    return File(tmp_path)


class Seen(list[str]):
    """What the file held each time that the settings would have been loaded."""


@contextlib.asynccontextmanager
async def watching(watch: SettingsWatch, file: File) -> AsyncIterator[Seen]:
    seen = Seen()

    async def follow() -> None:
        async for was_asked in watch.changes():
            seen.append(f"{'asked' if was_asked else 'changed'} {file.read()}")

    task = asyncio.create_task(follow())
    try:
        yield seen
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_each_new_content_is_noticed_once(file: File) -> None:
    async with watching(SettingsWatch(lambda: str(file.path)), file) as seen:
        await eventually(lambda: seen == ["changed a"])
        file.write_unnoticed("b")
        await eventually(lambda: len(seen) == 2)
        file.replace("c")
        await eventually(lambda: len(seen) == 3)
        file.remove()
        await eventually(lambda: len(seen) == 4)
        file.write("c")
        await eventually(lambda: len(seen) == 5)
    assert seen[1:] == ["changed b", "changed c", "changed missing", "changed c"]


async def test_a_file_that_is_being_written_is_not_loaded(file: File) -> None:
    async with watching(SettingsWatch(lambda: str(file.path)), file) as seen:
        await eventually(lambda: seen == ["changed a"])
        for length in range(20):  # each write before the last one is 0.2 s old
            file.write("b" * length)
            await asyncio.sleep(0.02)
        file.write("whole")
        await eventually(lambda: len(seen) == 2)
    assert seen[1] == "changed whole"


async def test_a_request_is_answered_once_and_at_once(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings_watch, "POLL_EVERY", 60.0)
    watch = SettingsWatch(lambda: str(file.path))
    async with watching(watch, file) as seen:
        watch.ask()
        watch.ask()
        await eventually(lambda: seen == ["asked a"])
        monkeypatch.setattr(settings_watch, "POLL_EVERY", 0.02)
        watch.ask()
        await eventually(lambda: seen == ["asked a", "asked a"])
        file.write("b")
        await eventually(lambda: len(seen) > 2)
        assert seen[2:] == ["changed b"]


async def test_without_a_file_only_requests_count(file: File) -> None:
    watch = SettingsWatch(lambda: None)
    async with watching(watch, file) as seen:
        watch.ask()
        await eventually(lambda: seen == ["asked a"])
        file.write("b")
        watch.ask()
        await eventually(lambda: seen == ["asked a", "asked b"])


async def test_a_file_that_appears_later_is_noticed(file: File) -> None:
    found: list[str] = []
    watch = SettingsWatch(lambda: found[0] if found else None)
    async with watching(watch, file) as seen:
        watch.ask()
        await eventually(lambda: seen == ["asked a"])
        found.append(str(file.path))
        await eventually(lambda: seen == ["asked a", "changed a"])


async def test_units_restart_only_what_differs() -> None:
    log: list[str] = []

    async def run(value: str) -> None:
        log.append(f"start {value}")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)  # its end takes a moment
            log.append(f"end {value}")

    live = Live({"one": "1", "two": "2", "kept": "kept"})
    async with asyncio.TaskGroup() as tasks:
        units = Units(tasks, run, name="test")

        async def follow() -> None:
            async for wanted in live.values():
                await units.apply(wanted)

        following = tasks.create_task(follow())
        await eventually(lambda: len(log) == 3)
        live.replace({"kept": "kept"})
        live.replace({"two": "two", "three": "3", "kept": "kept"})  # the one before is skipped
        await eventually(lambda: len(log) == 7)
        assert log[:3] == ["start 1", "start 2", "start kept"]
        assert sorted(log[3:5]) == ["end 1", "end 2"]
        assert sorted(log[5:]) == ["start 3", "start two"]
        live.replace({})
        await eventually(lambda: len(log) == 10)
        assert sorted(log[7:]) == ["end 3", "end kept", "end two"]
        following.cancel()


@contextlib.contextmanager
def on_a_terminal(*command: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a daemon that waits for servers which do not exist, on a terminal of its own."""
    ours, theirs = pty.openpty()
    servers = {
        "MEDIABUS_NATS_URL": f"nats://127.0.0.1:{free_port()}",
        "MEDIABUS_DATABASE_URL": f"postgresql://postgres@127.0.0.1:{free_port()}/none",
        "MEDIABUS_HTTP_PORT": "0",
        "MEDIABUS_LOG_FORMAT": "json",
    }
    process = subprocess.Popen(
        ["setsid", "--ctty", *command, *PROGRAM, "persist"],
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**environment(), **servers},
    )
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        assert process.stderr
        process.stderr.close()


def wait_for(process: subprocess.Popen[bytes], text: bytes) -> None:
    assert process.stderr
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"it ended without {text!r}")


async def test_sighup_reloads_and_a_closed_terminal_ends_the_process() -> None:
    with on_a_terminal() as (process, terminal):
        await asyncio.to_thread(wait_for, process, b"waiting for PostgreSQL")
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            await asyncio.to_thread(process.wait, 0.3)
        os.close(terminal)
        await asyncio.to_thread(wait_for, process, b'"shutting down"')
        assert await asyncio.to_thread(process.wait, 15) == 0


async def test_with_nohup_a_closed_terminal_does_not_end_the_process() -> None:
    with on_a_terminal("nohup") as (process, terminal):
        await asyncio.to_thread(wait_for, process, b"waiting for PostgreSQL")
        os.close(terminal)
        with pytest.raises(subprocess.TimeoutExpired):
            await asyncio.to_thread(process.wait, 1)

"""`mediabus clients` and `mediabus top` with a real client and a real download.

`top` also runs on a terminal.
"""

import asyncio
import base64
import contextlib
import json
import os
import pty
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.settings import Settings
from mediabus.schemas.status import ItemId, Phase
from tests.support import daemons, torrents
from tests.support.commands import PROGRAM, environment, mediabus
from tests.support.eventually import eventually
from tests.support.library import library, with_clients
from tests.support.monitored import is_shown, monitored
from tests.support.scripted import scripted
from tests.support.servers import NatsServer


async def test_clients_and_downloads_are_shown(settings: Settings, tmp_path: Path) -> None:
    nats = ("--nats", settings.nats.url or "")
    with daemons.Transmission.started() as daemon:
        away = daemon.settings(name="away", password="wrong")
        watched = with_clients(settings, daemon.settings(name="home"), away)
        async with torrents.swarm(tmp_path) as swarm, library(watched) as user:
            shared = swarm.share("slow.bin", size=4_000_000, rate=100_000)
            torrent = base64.b64encode(shared.content).decode()
            request = {"title": "Slow", "torrent": torrent, "client": "home"}
            await user.ask("downloads.initiate", request)
            await user.event("download_client.unreachable", "away")
            lines = await mediabus(*nats, "clients", "--json")
            table = await mediabus(*nats, "clients")
            top = await mediabus(*nats, "top")
            doctor = await mediabus(*nats, "doctor", "--json")
    told = [json.loads(line) for line in lines.out.splitlines()]
    assert [line["status"]["client"] for line in told] == ["away", "home"]
    assert (told[0]["status"]["reachable"], told[0]["status"]["reason"]) == (
        False,
        "authentication",
    )
    assert told[1]["status"]["version"].startswith("3.")
    assert sum(told[1]["downloads"].values()) == 1
    assert "no: authentication" in table.out
    assert "slow.bin" in top.out
    assert "unreachable: away" in top.out
    found = {it["name"]: it for it in map(json.loads, doctor.out.splitlines())}
    assert (found["client home"]["ok"], found["client away"]["ok"]) == (True, False)
    assert "authentication" in found["client away"]["found"]


async def test_doctor_reports_a_client_without_a_monitor(
    pool: Pool, bus: Bus, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that a monitor watched until it ended, and one of the settings that none ever did."""
    monkeypatch.setattr("mediabus.service.monitor.monitor.FORGOTTEN_AFTER", 1.0)
    config = tmp_path / "mediabus.toml"
    client = "[[clients]]\nkind = 'aria2'\nurl = 'http://127.0.0.1:1'\n"
    config.write_text(f"{client}name = 'never'\n{client}name = 'off'\nenabled = false\n")

    async def found() -> dict[str, Any]:
        nats = ("--config", str(config), "--nats", settings.nats.url or "")
        doctor = await mediabus(*nats, "doctor", "--json")
        told = map(json.loads, doctor.out.splitlines())
        return {it["name"]: it["ok"] or it["advice"] for it in told if "client " in it["name"]}

    script, scripted_client = scripted()
    script.show("a", "paused")
    async with monitored(pool, bus, scripted_client):
        await eventually(lambda: is_shown(bus, "a", Phase.PAUSED))
        advice = "start `mediabus monitor` or `mediabus up` with this client in its settings"
        assert await found() == {"client never": advice, "client script": True}

    async def nobody_watches() -> bool:
        return await found() == {"client never": advice, "client script": advice}

    await eventually(nobody_watches, within=60)


CTRL_C = b"\x03"
TOP_LEFT = "\x1b[H"
HIDES_CURSOR, SHOWS_CURSOR = "\x1b[?25l", "\x1b[?25h"
LEAVES_ITS_SCREEN = "\x1b[?1049l"


class Terminal:
    """A program, a terminal that is all its own, and what it has written there."""

    def __init__(self, keyboard: int, program: asyncio.subprocess.Process) -> None:
        self.program = program
        self._keyboard = keyboard
        self._written = b""

    @property
    def written(self) -> str:
        with contextlib.suppress(BlockingIOError):
            while True:
                self._written += os.read(self._keyboard, 1 << 16)
        return self._written.decode(errors="replace")  # half a character may be on its way

    def shows(self, *words: str) -> bool:
        """Whether its last whole picture has these words; where there are none yet, it has not."""
        *_, picture, _ = ["", *self.written.split(TOP_LEFT)]
        return all(word in picture for word in words)

    def press(self, key: bytes) -> None:
        os.write(self._keyboard, key)

    def has_ended(self) -> bool:
        return bool(self.written) and self.program.returncode is not None


@contextlib.asynccontextmanager
async def on_a_terminal(*args: str) -> AsyncIterator[Terminal]:
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    program = await asyncio.create_subprocess_exec(
        *("setsid", "--ctty", *PROGRAM, *args),
        stdin=theirs, stdout=theirs, stderr=theirs, env={**environment(), "TERM": "xterm"},
    )  # fmt: skip
    try:
        yield Terminal(ours, program)
    finally:
        if program.returncode is None:
            program.kill()
        await program.wait()
        os.close(ours)
        os.close(theirs)


async def test_top_shows_changes_and_restores_the_terminal(
    pool: Pool, bus: Bus, nats: NatsServer
) -> None:
    script, client = scripted()
    script.show("a", "downloading", title="Dune", progress=0.25)
    async with monitored(pool, bus, client), on_a_terminal("--nats", nats.url, "top") as terminal:
        await eventually(lambda: terminal.shows("1 in progress", "Dune", "25.0%"), within=30)
        assert terminal.written.count(HIDES_CURSOR) > terminal.written.count(SHOWS_CURSOR)
        script.show("b", "paused", title="Alien")
        script.show("a", "downloading", title="Dune", progress=0.75, download_rate=2_000_000)
        await eventually(lambda: terminal.shows("2 in progress, 2.0 MB/s", "Alien", "75.0%"))
        del script.items[ItemId("a")]
        await eventually(lambda: terminal.shows("1 in progress") and not terminal.shows("Dune"))
        assert terminal.shows("Alien")
        terminal.press(CTRL_C)
        await eventually(terminal.has_ended)
        assert terminal.program.returncode == 0
        assert "Traceback" not in terminal.written
        *_, last = terminal.written.split(HIDES_CURSOR)
        assert SHOWS_CURSOR in last
        assert LEAVES_ITS_SCREEN in last

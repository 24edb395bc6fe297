"""`mediabus clients` and `mediabus top`, beside a real client with a real download."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from schemas.status import Phase
from service.runtime.bus import Bus
from service.runtime.database import Pool
from service.runtime.settings import Settings
from tests.support import daemons, torrents
from tests.support.commands import mediabus
from tests.support.eventually import eventually
from tests.support.library import library, with_clients
from tests.support.monitored import is_shown, monitored
from tests.support.scripted import scripted


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
    assert "out of reach: away" in top.out
    found = {it["name"]: it for it in map(json.loads, doctor.out.splitlines())}
    assert (found["client home"]["ok"], found["client away"]["ok"]) == (True, False)
    assert "authentication" in found["client away"]["found"]


async def test_doctor_sees_that_nobody_watches_a_client(
    pool: Pool, bus: Bus, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that a monitor watched until it ended, and one of the settings that none ever did."""
    monkeypatch.setattr("service.monitor.monitor.FORGOTTEN_AFTER", 1.0)
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

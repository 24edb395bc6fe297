"""`mediabus clients` and `mediabus top`, beside a real client with a real download."""

import base64
import json
from pathlib import Path

from service.runtime.settings import Settings
from tests.support import daemons, torrents
from tests.support.commands import mediabus
from tests.support.library import library, with_clients


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

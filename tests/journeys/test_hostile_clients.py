"""A whole mediabus in one process, as `mediabus up` is, with six hostile clients and a real one."""

import base64
import contextlib
import statistics
import time
from pathlib import Path

import pytest

from mediabus.runtime.settings import Settings
from mediabus.schemas.identity import uuid7
from mediabus.service.clients.sessions import KINDS
from tests.support import daemons, torrents
from tests.support.daemons import HOST
from tests.support.eventually import eventually
from tests.support.hostile import OVER_DELUGE, OVER_HTTP, OVER_SCGI, hostile, own_certificate
from tests.support.library import Library, Refused, library, with_clients

ATTACKS = {
    "aria2": ("http", OVER_HTTP["endless chunks"]),
    "deluge": ("deluge", OVER_DELUGE["events without end"]),
    "nzbget": ("http", OVER_HTTP["gzip bomb"]),
    "qbittorrent": ("http", OVER_HTTP["deep lists later"]),
    "rtorrent": ("scgi", OVER_SCGI["many values"]),
    "sabnzbd": ("http", OVER_HTTP["endless headers"]),
}


@pytest.mark.slow
async def test_six_hostile_clients_delay_no_other_client(
    settings: Settings, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        bad = []
        for kind, (scheme, say) in ATTACKS.items():
            tls = own_certificate(tmp_path) if kind == "deluge" else None
            server = stack.enter_context(hostile(say, tls))
            url = f"{scheme}://{HOST}:{server.port}"
            bad.append(KINDS[kind](name=f"bad-{kind}", url=url, timeout=2.0, priority=9))
        good = stack.enter_context(daemons.Transmission.started()).settings(name="good")
        watched = with_clients(settings, good, *bad)
        async with torrents.swarm(tmp_path) as swarm, library(watched) as user:
            await eventually(lambda: _are_unreachable(user), within=60)
            await _the_rest_works(user)
            shared = swarm.share("whole.bin", size=100_000)
            torrent = base64.b64encode(shared.content).decode()
            request = {"title": "Whole", "torrent": torrent, "client": "good"}
            download = await user.ask("downloads.initiate", request)
            await user.event("download.completed", download["id"], within=60)
            with pytest.raises(Refused) as refused:
                await user.ask("downloads.initiate", {**request, "client": "bad-qbittorrent"})
            assert refused.value.code == 502
            reasons = await user.pool.fetch(
                "SELECT data->>'reason' AS reason FROM events"
                " WHERE type = 'download_client.unreachable'"
            )
    assert len(reasons) == len(ATTACKS), "each outage is told once"
    assert {row["reason"] for row in reasons} <= {"protocol", "connection"}


async def _are_unreachable(user: Library) -> bool:
    query = "SELECT count(*) FROM events WHERE type = 'download_client.unreachable'"
    return bool(await user.pool.fetchval(query) == len(ATTACKS))


async def _the_rest_works(user: Library) -> None:
    """Requests are answered as if there were no other clients."""
    took = []
    for number in range(100):
        began = time.monotonic()
        await user.ask(
            "media.create", {"type": "movie", "title": f"{uuid7()}", "year": 2000 + number % 20}
        )
        took.append(time.monotonic() - began)
    assert statistics.median(took) < 0.2
    assert max(took) < 5

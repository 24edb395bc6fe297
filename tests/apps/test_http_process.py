"""`mediabus service` receives events and webhooks on its port, and keeps them through kills."""

from pathlib import Path
from typing import Any

import msgspec

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.settings import IngestSettings, Settings
from mediabus.service.apps.configured import app_settings
from tests.support.apps import Sonarr
from tests.support.eventually import eventually
from tests.support.http_in import send
from tests.support.processes import HOST, Process, processes
from tests.support.stream import messages

TOKEN = "a-token-of-sixteen-or-more"


async def stored(bus: Bus) -> list[dict[str, Any]]:
    return [msgspec.json.decode(message.data or b"") for message in await messages(bus)]


async def is_ready(process: Process) -> bool:
    return process.is_ready


async def test_service_stores_events_and_webhooks_and_keeps_them_when_it_is_killed(
    bus: Bus, settings: Settings, tmp_path: Path
) -> None:
    async with Sonarr.running() as sonarr:
        app = {"name": "tv", "kind": "sonarr", "url": sonarr.url, "api_key": sonarr.api_key}
        settings = msgspec.structs.replace(settings, apps=[app], ingest=IngestSettings(token=TOKEN))
        (configured,) = app_settings(settings, {})
        with processes(settings, tmp_path, "service") as (service,):
            base = f"http://{HOST}:{service.port}"
            sonarr.connections.add(f"{base}/hooks/tv/{configured.token}")
            event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "my.own"}
            series = sonarr.put_series("Severance")
            for _ in range(3):
                headers = {"Authorization": f"Bearer {TOKEN}"}
                reply = await send(f"{base}/events", event, **headers)
                assert reply.status == 200, reply.body
                await sonarr.require_interaction(
                    series, [1], f"nzo_{len(sonarr.connections.attempts)}", []
                )
                service.kill()
                service.start()
                await eventually(lambda: is_ready(service), within=30)
            log = service.log.read_text()
    own = [one for one in await stored(bus) if one["type"] == "my.own"]
    blocked = [one for one in await stored(bus) if one["type"] == "download.import_blocked"]
    assert [one["id"] for one in own] == ["1"]
    items = [one["data"]["client_item"] for one in blocked]
    assert items == ["nzo_0", "nzo_1", "nzo_2"]
    assert [status for _, status in sonarr.connections.attempts] == [200] * 3
    for secret in (TOKEN, configured.token, sonarr.api_key):
        assert secret not in log

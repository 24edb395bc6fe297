"""`mediabus apps connect`: the webhook is registered once, with the right boxes, and tested."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.settings import Settings
from mediabus.service.apps import AnyAppSettings
from mediabus.service.apps.configured import app_settings
from mediabus.service.apps.connect import ConnectFailed, connect_app, webhook_url
from mediabus.service.apps.http import app_http
from mediabus.service.clients.port import ClientUnavailable
from mediabus.service.ingest.http.webhooks import Webhooks
from tests.support.apps import Lidarr, Prowlarr, Radarr, Seerr, Sonarr
from tests.support.apps.receiver import receiver
from tests.support.http_in import serving_endpoint
from tests.support.ports import free_port
from tests.support.servers import NatsServer

ARRS = (Sonarr, Radarr, Lidarr, Prowlarr)


def settings_of(app: Any, **changes: str) -> AnyAppSettings:
    kind = type(app).__name__.lower()
    table = {"name": "mine", "kind": kind, "url": app.url, "api_key": app.api_key, **changes}
    (configured,) = app_settings(Settings(apps=[table]), {})
    return configured


async def connect(app: AnyAppSettings, base: str, *, replace: bool = False) -> str:
    async with app_http(app) as api:
        return await connect_app(app, api, base, replace=replace)


class Ingest:
    """A mediabus that knows any one application."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.apps: list[AnyAppSettings] = []

    async def receive(self, request: Any) -> Any:
        return await Webhooks(self.bus, self.apps).receive(request)


@pytest.fixture
async def ingest(bus: Bus) -> Ingest:
    return Ingest(bus)


@pytest.fixture
async def base(ingest: Ingest) -> AsyncIterator[str]:
    async with serving_endpoint(ingest.receive) as url:
        yield url


@pytest.mark.parametrize("kind", ARRS)
async def test_webhook_is_registered_once_with_every_box_ticked(
    kind: Any, base: str, ingest: Ingest
) -> None:
    async with kind.running() as app:
        configured = settings_of(app)
        ingest.apps = [configured]
        app.connections.add("http://127.0.0.1:1/somebody-elses")
        assert await connect(configured, base) == "created"
        assert await connect(configured, f"{base}/") == "updated"
        other, ours = app.connections.all()
        assert other.field("url") == "http://127.0.0.1:1/somebody-elses"
        assert ours.field("url") == webhook_url(configured, base)
        unticked = {box for box in app.boxes if not ours.resource[box]}
        assert unticked <= {"onImportComplete"}


async def test_duplicate_and_outdated_webhooks_are_corrected(base: str, ingest: Ingest) -> None:
    async with Sonarr.running() as sonarr:
        configured = settings_of(sonarr)
        ingest.apps = [configured]
        for _ in range(2):
            sonarr.connections.add("http://old:8321/hooks/mine/old-token", method=2)
        assert await connect(configured, base) == "updated"
        (ours,) = sonarr.connections.all()
        assert (ours.field("url"), ours.field("method")) == (webhook_url(configured, base), 1)


async def test_webhook_of_a_renamed_app_is_corrected(base: str, ingest: Ingest) -> None:
    async with Sonarr.running() as sonarr:
        configured = settings_of(sonarr)
        ingest.apps = [configured]
        sonarr.connections.add("http://old:8321/hooks/former/token").resource["name"] = "mediabus"
        assert await connect(configured, base) == "updated"
        (ours,) = sonarr.connections.all()
        assert ours.field("url") == webhook_url(configured, base)


async def test_webhook_that_cannot_reach_mediabus_is_not_registered() -> None:
    async with Radarr.running() as radarr:
        with pytest.raises(ConnectFailed, match=r"did not accept the webhook .*Check that it can"):
            await connect(settings_of(radarr), f"http://127.0.0.1:{free_port()}")
        assert radarr.connections.all() == []


async def test_webhook_is_not_registered_while_nats_is_away(
    base: str, ingest: Ingest, nats: NatsServer
) -> None:
    async with Radarr.running() as radarr:
        ingest.apps = [settings_of(radarr)]
        nats.kill()
        with pytest.raises(ConnectFailed, match="HTTP status 503"):
            await connect(settings_of(radarr), base)


async def test_wrong_api_key_is_reported(base: str) -> None:
    async with Sonarr.running() as sonarr:
        wrong = settings_of(sonarr, api_key="x" * 32)
        with pytest.raises(ClientUnavailable, match="refused the API key"):
            await connect(wrong, base)


async def test_seerr_keeps_the_webhook_of_another_program_unless_told(
    base: str, ingest: Ingest
) -> None:
    async with receiver() as other, Seerr.running() as seerr:
        configured = settings_of(seerr)
        ingest.apps = [configured]
        seerr.add_webhook(other.url)
        with pytest.raises(ConnectFailed, match="--replace"):
            await connect(configured, base)
        assert await connect(configured, base, replace=True) == "created"
        assert await connect(configured, base) == "updated"
        await seerr.request("Dune")
        assert seerr.attempts == [("MEDIA_PENDING", 200)]
        assert other.bodies == []


async def test_failed_test_of_seerr_is_reported(base: str) -> None:
    async with Seerr.running() as seerr:
        with pytest.raises(ConnectFailed, match="its test failed"):
            await connect(settings_of(seerr), base)

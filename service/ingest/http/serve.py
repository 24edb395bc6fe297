"""Serve ``POST /events`` and ``POST /hooks/<app>`` on the port of the process."""

import contextlib
from collections.abc import AsyncIterator, Sequence

from mediabus.runtime import tracing
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.process.http_routes import Routes
from mediabus.runtime.settings import IngestSettings
from mediabus.service.apps.settings import AppSettings
from mediabus.service.ingest.http.cloud_events import CloudEvents
from mediabus.service.ingest.http.webhooks import PREFIX, Webhooks


@contextlib.asynccontextmanager
async def serve_http(
    bus: Bus, routes: Routes, settings: IngestSettings, apps: Sequence[AppSettings]
) -> AsyncIterator[None]:
    """Receive events over HTTP while open."""
    events = CloudEvents(bus, settings.token)
    webhooks = Webhooks(bus, apps)
    receive_events = tracing.http_handler("/events", events.receive)
    receive_webhook = tracing.http_handler("/hooks/{app}", webhooks.receive)
    with routes.handling("/events", receive_events), routes.handling(PREFIX, receive_webhook):
        yield

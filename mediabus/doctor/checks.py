"""The checks of `mediabus doctor`: the settings, NATS and what it shows, and PostgreSQL."""

from collections.abc import AsyncGenerator

from mediabus.commands.context import Face
from mediabus.doctor.app_checks import examine_apps
from mediabus.doctor.database_checks import examine_database
from mediabus.doctor.finding import Finding
from mediabus.doctor.nats_checks import examine_nats
from mediabus.runtime.nats.bus import CannotConnect
from mediabus.service.apps.configured import app_settings
from mediabus.service.clients.sessions import client_settings


async def examine(face: Face) -> AsyncGenerator[Finding, None]:
    """Check the settings, everything that is visible through NATS, then PostgreSQL."""
    for line in face.exposed():
        found, _, advice = line.partition(": ")
        yield Finding(name="settings", ok=False, found=found, advice=advice)
    apps = [app.name for app in app_settings(face.settings())]
    enabled = [client.name for client in client_settings(face.settings()) if client.enabled]
    try:
        async with face.connected() as bus:
            async for finding in examine_nats(bus, enabled):
                yield finding
            async for finding in examine_apps(bus, apps):
                yield finding
            async for finding in examine_database(bus, face.resolved_settings().database):
                yield finding
    except CannotConnect as error:
        yield Finding(name="NATS", ok=False, found="unreachable", advice=str(error))

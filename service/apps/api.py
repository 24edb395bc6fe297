"""Serve the operations on applications over NATS."""

import contextlib
from collections.abc import AsyncIterator, Sequence

import msgspec

from mediabus.runtime.api.serve import Headers, OperationError, endpoint, problem, serving
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.postgres.database import Pool
from mediabus.schemas.identity import Actor
from mediabus.schemas.operations.apps import AppList, AppState, ImportHistory, ListApps
from mediabus.service.apps.settings import AppSettings
from mediabus.service.apps.state import list_apps, request_import


@contextlib.asynccontextmanager
async def serve_apps(bus: Bus, pool: Pool, apps: Sequence[AppSettings]) -> AsyncIterator[None]:
    """Serve the NATS micro service ``mediabus-apps``.

    ``apps`` is read at each request, because a reload of the settings changes it.
    """

    async def listed(_: ListApps, __: Actor, ___: Headers) -> AppList:
        return AppList(items=await _states(pool, apps))

    async def imported(request: ImportHistory, _: Actor, __: Headers) -> AppState:
        if request.name not in {app.name for app in apps}:
            names = ", ".join(sorted(app.name for app in apps)) or "none"
            text = f"The settings have no application {request.name!r}; they have: {names}"
            raise OperationError(problem(404, "not_found", text, "name"))
        await request_import(pool, request.name, request.since)
        states = await _states(pool, apps)
        return next(state for state in states if state.name == request.name)

    endpoints = [
        endpoint("apps.list", ListApps, listed),
        endpoint("apps.import", ImportHistory, imported),
    ]
    description = "Applications that mediabus reads"
    async with serving(bus, name="mediabus-apps", description=description, endpoints=endpoints):
        yield


async def _states(pool: Pool, apps: Sequence[AppSettings]) -> list[AppState]:
    """Return the applications of the settings, by name, also those not called yet."""
    known = {
        state.name: msgspec.convert(state, AppState, from_attributes=True)
        for state in await list_apps(pool)
    }
    return [
        known.get(app.name) or AppState(name=app.name, kind=app.kind)
        for app in sorted(apps, key=lambda app: app.name)
    ]

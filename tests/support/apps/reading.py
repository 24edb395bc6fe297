"""A mediabus that reads stand-ins of applications, quickly."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from mediabus.runtime.settings import Settings
from mediabus.wiring.registry import PERSIST, SERVICE, Process
from tests.support.eventually import eventually
from tests.support.library import Library, library


def with_apps(settings: Settings, *apps: Any, **options: Any) -> Settings:
    """Return the settings with applications that are polled often."""
    tables = [
        {
            "name": app.instance_name.lower(),
            "kind": app.app_name.lower(),
            "url": app.url,
            "api_key": app.api_key,
            "poll": 0.5,
            "health_hold": 0.5,
            "import_quiet": 2.0,
            "sweep": 3600.0,
            **options,
        }
        for app in apps
    ]
    monitor = msgspec.structs.replace(settings.monitor, unreachable_after=1.0)
    return msgspec.structs.replace(settings, apps=tables, monitor=monitor)


@contextlib.asynccontextmanager
async def reading(
    settings: Settings,
    *apps: Any,
    processes: Sequence[Process] = (SERVICE, PERSIST),
    **options: Any,
) -> AsyncIterator[Library]:
    """Run mediabus, and wait until it has met the applications."""
    async with library(with_apps(settings, *apps, **options), processes) as user:

        async def met() -> bool:
            rows = await user.pool.fetch("SELECT FROM apps WHERE read_at IS NOT NULL")
            return len(rows) == len(apps)

        await eventually(met, within=30)
        yield user


async def stored(user: Library, event_type: str | None = None) -> list[Any]:
    """Return the events of a type, in the order of the stream."""
    rows: list[Any] = await user.pool.fetch(
        "SELECT type, source, resource_type, resource_id, correlation_id, actor_type, actor_id,"
        " data, occurred_at, id FROM events WHERE ($1::text IS NULL OR type = $1)"
        " ORDER BY stream_seq",
        event_type,
    )
    return rows


async def so_many(user: Library, number: int, event_type: str | None = None) -> list[Any]:
    """Return the events of a type once there are so many."""

    async def arrived() -> list[Any]:
        rows = await stored(user, event_type)
        return rows if len(rows) >= number else []

    rows: list[Any] = await eventually(arrived, within=30)
    assert len(rows) == number, [row["type"] for row in rows]
    return rows

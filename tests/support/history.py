"""The table ``events`` as tests see it, and the command line with the URLs of both servers."""

from typing import Any

from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.settings import Settings
from tests.support import commands


async def rows(pool: Pool) -> list[dict[str, Any]]:
    """Every event, oldest first, with all but the time at which it was stored."""
    found = await pool.fetch(
        "SELECT to_jsonb(events) - 'recorded_at' AS row FROM events ORDER BY occurred_at, id"
    )
    return [row["row"] for row in found]


async def mediabus(settings: Settings, *args: str) -> commands.Outcome:
    """A command with both servers."""
    return await commands.mediabus(
        *args,
        MEDIABUS_NATS_URL=settings.nats.url or "",
        MEDIABUS_DATABASE_URL=settings.database.url or "",
    )

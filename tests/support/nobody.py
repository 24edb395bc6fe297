"""A role of PostgreSQL that may do nothing but log in."""

import contextlib
from collections.abc import AsyncIterator
from uuid import uuid4

from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.settings import DatabaseSettings


@contextlib.asynccontextmanager
async def nobody(pool: Pool, url: str) -> AsyncIterator[DatabaseSettings]:
    """How to log in to the database of ``pool`` as such a role, which is dropped on leaving."""
    name = f"nobody_{uuid4().hex}"
    await pool.execute(f"CREATE ROLE {name} LOGIN")
    try:
        yield DatabaseSettings(url=url.replace("postgres@", f"{name}@"))
    finally:
        await pool.execute(f"DROP ROLE {name}")

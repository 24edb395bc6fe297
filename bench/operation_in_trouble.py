"""Measure an operation called as a Python function, with and without failures.

The same row is inserted without any event, with its event, with an outbox whose trigger raises (the
event is then published directly), and with NATS stopped.
"""

import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from bench.load import Operation, in_flight
from bench.report import Section
from mediabus.runtime.embedded import data_dir_lock, embedded_postgres
from mediabus.runtime.nats.bus import connect
from mediabus.runtime.nats.streams import ensure_streams
from mediabus.runtime.postgres.database import Pool, open_pool
from mediabus.runtime.postgres.schema import migrate
from mediabus.runtime.settings import DatabaseSettings, NatsSettings
from mediabus.schemas.identity import Actor, uuid7
from mediabus.schemas.operations.requests import CreateMedia
from mediabus.service.operations.open import open_operations
from tests.support.servers import nats_server

ACTOR: Final = Actor("user", "42")
REQUEST: Final = CreateMedia(type="tv_show", title="A show")
IN_FLIGHT: Final = 8

PLAIN: Final = (
    "INSERT INTO media_items (id, type, title, metadata) VALUES ($1, 'tv_show', $2, '{}')"
)
RAISE: Final = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION refuse();
"""
RAISE_NO_MORE: Final = "DROP TRIGGER refuse ON outbox; DROP FUNCTION refuse"


async def measure(operations: int, runs: int) -> Section:
    """Measure the cases in turns."""
    section = Section("operation in trouble")
    with tempfile.TemporaryDirectory(prefix="mediabus-bench-") as folder:
        async with (
            data_dir_lock(Path(folder)) as data_dir,
            embedded_postgres(data_dir) as url,
            open_pool(DatabaseSettings(url=url)) as pool,
        ):
            await migrate(pool)
            for run in range(runs + 1):  # the first warms up
                async for case, operation in _cases(pool, Path(folder)):
                    rate, p50 = await in_flight(operation, operations, IN_FLIGHT)
                    await pool.execute("TRUNCATE outbox, media_items CASCADE")
                    if run:
                        section.add(case, "operations/s", rate)
                        section.add(f"{case}, p50", "ms", p50)
    section.note(f"media.create as a function call, {IN_FLIGHT} in flight, {runs} runs in turns.")
    return section


async def _cases(pool: Pool, folder: Path) -> AsyncIterator[tuple[str, Operation]]:
    """Yield each case with its function, while its conditions hold."""

    async def plain() -> None:
        await pool.execute(PLAIN, uuid7(), REQUEST.title)

    with tempfile.TemporaryDirectory(dir=folder) as store, nats_server(Path(store)) as nats:
        settings = NatsSettings(url=nats.url)
        async with (
            connect(settings, name="bench") as bus,
            open_operations(pool, bus) as operations,
        ):
            await ensure_streams(bus, settings)

            async def create() -> None:
                await operations.media.create(REQUEST, ACTOR)

            yield "a bare INSERT", plain
            yield "with its event", create
            async with _refusing(pool):
                yield "with an outbox that refuses", create
            nats.stop()
            yield "with NATS stopped", create


@contextlib.asynccontextmanager
async def _refusing(pool: Pool) -> AsyncIterator[None]:
    """Make the outbox fail."""
    await pool.execute(RAISE)
    try:
        yield
    finally:
        await pool.execute(RAISE_NO_MORE)

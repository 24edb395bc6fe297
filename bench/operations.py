"""What events cost an operation: called as a Python function, with everything well and not.

    python -m bench.operations [--operations 2000] [--in-flight 8] [--runs 3]

The same row is inserted without any event, with its event, with NATS stopped, and with an outbox
whose trigger raises (the event is then published directly). The cases take turns.
"""

import argparse
import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from schemas.commands import CreateMedia
from schemas.identity import Actor, uuid7
from service.operations.open import open_operations
from service.runtime.bus import connect
from service.runtime.database import Pool, migrate, open_pool
from service.runtime.embedded import data_dir_lock, embedded_postgres
from service.runtime.settings import DatabaseSettings, NatsSettings
from service.runtime.streams import ensure_streams
from tests.support.servers import nats_server

ACTOR = Actor("user", "42")
REQUEST = CreateMedia(type="tv_show", title="A show")

PLAIN = "INSERT INTO media_items (id, type, title, metadata) VALUES ($1, 'tv_show', $2, '{}')"
RAISE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION refuse();
"""
RAISE_NO_MORE = "DROP TRIGGER refuse ON outbox; DROP FUNCTION refuse"

Operation = Callable[[], Awaitable[object]]


async def measured(operation: Operation, count: int, in_flight: int) -> tuple[float, float]:
    """Operations a second, and the median of their milliseconds."""
    took: list[float] = []

    async def work() -> None:
        while len(took) < count:
            began = time.perf_counter()
            await operation()
            took.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(in_flight)))
    return len(took) / (time.perf_counter() - began), statistics.median(took) * 1000


@contextlib.asynccontextmanager
async def refusing(pool: Pool) -> AsyncIterator[None]:
    """An outbox that takes nothing."""
    await pool.execute(RAISE)
    try:
        yield
    finally:
        await pool.execute(RAISE_NO_MORE)


async def run(arguments: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    """Each case, in turns; the first turn only warms up."""
    figures: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="mediabus-bench-") as folder:
        async with (
            data_dir_lock(Path(folder)) as data_dir,
            embedded_postgres(data_dir) as url,
            open_pool(DatabaseSettings(url=url)) as pool,
        ):
            await migrate(pool)
            for turn in range(arguments.runs + 1):
                async for case, operation in cases(pool, Path(folder)):
                    found = await measured(operation, arguments.operations, arguments.in_flight)
                    if turn:
                        figures.setdefault(case, []).append(found)
                    await pool.execute("TRUNCATE outbox, media_items CASCADE")
    return figures


async def cases(pool: Pool, folder: Path) -> AsyncIterator[tuple[str, Operation]]:
    """Each case with what it does, while its conditions hold."""

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

            yield "without any event", plain
            yield "with its event", create
            async with refusing(pool):
                yield "with an outbox that refuses", create
            nats.stop()
            yield "with NATS stopped", create


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--operations", type=int, default=2_000)
    parser.add_argument("--in-flight", type=int, default=8)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    figures = asyncio.run(run(arguments))
    print(f"median of {arguments.runs} runs, {arguments.in_flight} in flight")
    print(f"{'media.create':32} {'operations/s':>12} {'p50 ms':>8}")
    for case, found in figures.items():
        rate = statistics.median(rate for rate, _ in found)
        p50 = statistics.median(p50 for _, p50 in found)
        print(f"{case:32} {rate:>12,.0f} {p50:>8.2f}")


if __name__ == "__main__":
    main()

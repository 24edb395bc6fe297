"""A lease: one leads, and another within five seconds after that one is gone."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from mediabus.runtime.postgres import lease
from mediabus.runtime.postgres.database import Pool, open_pool
from mediabus.runtime.postgres.lease import while_leading
from mediabus.runtime.postgres.schema import migrate
from mediabus.runtime.settings import DatabaseSettings
from tests.support.eventually import eventually
from tests.support.servers import PostgresServer, postgres_server

TAKEN_OVER_WITHIN = 5.0


class Leaders:
    """Candidates for one lease, and who of them leads."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.leading: list[str] = []
        self.terms: list[str] = []

    def stand(self, name: str) -> None:
        async def lead() -> None:
            self.leading.append(name)
            self.terms.append(name)
            try:
                await asyncio.Event().wait()
            finally:
                self.leading.remove(name)

        self._tasks[name] = asyncio.create_task(while_leading(self._pool, "test", lead))

    async def leave(self, name: str) -> None:
        task = self._tasks.pop(name)
        task.cancel()
        await asyncio.wait([task])

    async def leave_all(self) -> None:
        for name in list(self._tasks):
            await self.leave(name)


@contextlib.asynccontextmanager
async def candidates(pool: Pool, *names: str) -> AsyncIterator[Leaders]:
    it = Leaders(pool)
    for name in names:
        it.stand(name)
    try:
        yield it
    finally:
        await it.leave_all()


async def test_one_of_many_leads(pool: Pool) -> None:
    async with candidates(pool, *"abcde") as them:
        await eventually(lambda: them.leading)
        beat = await pool.fetchval("SELECT beat FROM leases")
        # Long enough for the others to have looked, and to have seen it beat.
        await eventually(lambda: has_beaten(pool, beat + 5), within=20)
        assert len(them.terms) == 1


async def has_beaten(pool: Pool, beat: int) -> bool:
    return bool(await pool.fetchval("SELECT beat >= $1 FROM leases", beat))


async def test_one_that_leaves_is_followed_at_once(pool: Pool) -> None:
    async with candidates(pool, "a") as them:
        await eventually(lambda: them.leading)
        them.stand("b")
        await them.leave("a")
        await eventually(lambda: them.leading == ["b"], within=2)


async def test_one_that_was_killed_is_followed_within_five_seconds(pool: Pool) -> None:
    await pool.execute("INSERT INTO leases VALUES ('test', $1, 7)", uuid4())
    async with candidates(pool, "a", "b") as them:
        await eventually(lambda: them.leading, within=TAKEN_OVER_WITHIN)
        assert len(them.leading) == 1


async def test_one_that_beats_is_not_followed(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "EXPIRES_AFTER", 0.5)
    monkeypatch.setattr(lease, "BEAT_EVERY", 0.1)
    await pool.execute("INSERT INTO leases VALUES ('test', $1, 7)", uuid4())
    beats = "UPDATE leases SET beat = beat + 1 RETURNING beat"
    async with candidates(pool, "a") as them:
        await eventually(lambda: beats_up_to(pool, beats, 27), within=20, every=0.1)
        assert them.terms == []
        await eventually(lambda: them.leading)


async def beats_up_to(pool: Pool, beats: str, count: int) -> bool:
    return bool(await pool.fetchval(beats) >= count)


async def test_one_that_lost_its_lease_stops_working(pool: Pool) -> None:
    async with candidates(pool, "a") as them:
        await eventually(lambda: them.leading)
        await pool.execute("UPDATE leases SET holder = $1", uuid4())
        await eventually(lambda: not them.leading, within=3)


async def test_an_exception_of_the_work_is_raised(pool: Pool) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(while_leading(pool, "test", fail), 10)
    assert await pool.fetchval("SELECT count(*) FROM leases") == 0


@pytest.fixture
async def own() -> AsyncIterator[tuple[PostgresServer, Pool]]:
    """A PostgreSQL to stop, and connections to it."""
    with (
        tempfile.TemporaryDirectory(prefix="mediabus-") as directory,
        postgres_server(Path(directory)) as server,
    ):
        async with open_pool(DatabaseSettings(url=server.url, pool_size=4)) as pool:
            await migrate(pool)
            yield server, pool


async def test_a_short_outage_of_the_database_keeps_the_lease(
    own: tuple[PostgresServer, Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "BEAT_EVERY", 0.05)  # so that beats fall into the outage
    server, pool = own
    async with candidates(pool, "a") as them:
        await eventually(lambda: them.leading)
        beat = await pool.fetchval("SELECT beat FROM leases")
        server.kill()
        await asyncio.to_thread(server.start)
        await eventually(lambda: has_beaten(pool, beat + 3), within=20)
        assert them.terms == ["a"]


async def test_a_revoked_privilege_stops_the_work_until_it_is_granted(pool: Pool) -> None:
    """And not the process: any error of PostgreSQL can be fixed by an operator."""
    async with candidates(pool, "a") as them:
        await eventually(lambda: them.leading)
        await pool.execute("ALTER TABLE leases RENAME TO elsewhere")
        await eventually(lambda: not them.leading)
        await pool.execute("ALTER TABLE elsewhere RENAME TO leases")
        await eventually(lambda: them.leading, within=20)


async def test_a_long_outage_of_the_database_stops_the_work(
    own: tuple[PostgresServer, Pool],
) -> None:
    server, pool = own
    async with candidates(pool, "a") as them:
        await eventually(lambda: them.leading)
        server.stop()
        await eventually(lambda: not them.leading)
        await asyncio.to_thread(server.start)
        await eventually(lambda: them.leading)

"""Processes are killed in the middle of their work: every event is stored, none twice, in order."""

import asyncio
import base64
import collections
import itertools
import random
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError

from mediabus.consumers.dead_letters import DeadLetters
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.settings import PersisterSettings, Settings
from mediabus.schemas.operations.requests import CORRELATION_HEADER
from tests.support import daemons, torrents
from tests.support.eventually import eventually
from tests.support.library import Library, with_clients
from tests.support.processes import Process, processes
from tests.support.servers import NatsServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

OPERATIONS = 5000
KILLS = 3
USERS = 32
ANSWER_WITHIN = 1.5
"""Seconds that a user waits for a reply; a request to a killed process gets none."""

TAKEN_OVER_WITHIN = 5.0


class Users:
    """Users who work side by side, partly on the same items, and what they were answered.

    ``owed`` is how many events each acknowledged operation must have, by its correlation id. What
    was never answered may have happened or not."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._shared: list[str] = []
        self.begun = 0
        self.go_on_to = OPERATIONS
        self.owed: dict[str, int] = {}
        self.unanswered: set[str] = set()

    async def work(self) -> None:
        """Performs all the operations."""
        self._shared = [await self._create() for _ in range(4)]
        async with asyncio.TaskGroup() as tasks:
            for _ in range(USERS):
                tasks.create_task(self._work())

    async def _work(self) -> None:
        own = await self._create()
        for number in itertools.count():
            await eventually(lambda: self.begun < self.go_on_to or self.are_done, within=90)
            if self.are_done:
                return
            match number % 5:
                case 0 | 1:
                    await self._rename(own)
                case 2:
                    await self._rename(random.choice(self._shared))
                case 3:
                    await self._monitor([own, *self._shared])
                case _:
                    own = await self._create()

    @property
    def are_done(self) -> bool:
        return self.begun >= OPERATIONS

    def have_begun(self, operations: int) -> bool:
        return self.begun >= operations

    async def _create(self) -> str:
        request = {"type": "tv_show", "title": "A show"}
        while True:
            answer = await self._ask("media.create", request, lambda _: 1)
            if answer is not None:
                return str(answer["id"])

    async def _rename(self, item: str) -> None:
        title = f"Title {self.begun}"  # none is like another, so each is a change
        await self._ask("media.update", {"id": item, "title": title}, lambda _: 1)

    async def _monitor(self, items: list[str]) -> None:
        request = {"ids": items, "monitored": random.random() < 0.5}
        await self._ask("media.set_monitored", request, lambda answer: len(answer["items"]))

    async def _ask(
        self, subject: str, request: dict[str, Any], events: Callable[[Any], int]
    ) -> Any | None:
        self.begun += 1
        operation = f"operation {self.begun}"
        headers = {CORRELATION_HEADER: operation}
        while True:
            try:
                answer = await self._library.ask(
                    subject, request, headers=headers, timeout=ANSWER_WITHIN
                )
            except NoRespondersError:  # no process was there to do it
                await asyncio.sleep(0.02)
            except (NatsError, TimeoutError):
                self.unanswered.add(operation)
                return None
            else:
                self.owed[operation] = events(answer)
                return answer


async def killing(users: Users, kill: Callable[[], Awaitable[None]]) -> None:
    """Run the users, and kill the process so many times in the middle of it.

    The users do part of the work while it is gone, and leave the rest for the next one.
    """
    part = OPERATIONS // (KILLS + 1)

    async def kills() -> None:
        for number in range(1, KILLS + 1):
            users.go_on_to = part * (number + 1)
            await eventually(partial(users.have_begun, part * number + 2 * USERS), within=90)
            assert users.begun < users.go_on_to, "this kill comes too late to be in the middle"
            await kill()

    async with asyncio.TaskGroup() as tasks:
        users.go_on_to = part
        tasks.create_task(users.work())
        tasks.create_task(kills())


async def came_back(process: Process) -> None:
    """Kills a process and starts it again."""
    process.kill()
    process.start()
    await eventually(lambda: process.is_ready, within=30)


EVENTS = """
SELECT correlation_id, type, resource_id, data FROM events ORDER BY stream_seq
"""


async def all_arrived(users: Users, pool: Pool, bus: Bus) -> None:
    """Every event is there, once and in order, and nothing is left on the way."""
    await eventually(lambda: _is_empty(pool), within=90, every=0.25)
    events = await pool.fetch(EVENTS)
    rows = await pool.fetch("SELECT id::text, title, monitored FROM media_items")
    assert len(users.owed) > 0.9 * OPERATIONS
    _each_operation_is_told_once(users, events)
    _each_item_tells_its_life_in_order(rows, events)
    assert await DeadLetters(bus).count() == 0


async def _is_empty(pool: Pool) -> bool:
    return bool(await pool.fetchval("SELECT NOT EXISTS (SELECT FROM outbox)"))


def _each_operation_is_told_once(users: Users, events: list[asyncpg.Record]) -> None:
    told = collections.Counter(event["correlation_id"] for event in events)
    wrong = {
        operation: (owed, told[operation])
        for operation, owed in users.owed.items()
        if told[operation] != owed
    }
    assert not wrong, "operation: (events owed, events stored)"
    assert told.keys() <= users.owed.keys() | users.unanswered
    once = {(event["correlation_id"], event["type"], event["resource_id"]) for event in events}
    assert len(once) == len(events)


def _each_item_tells_its_life_in_order(
    rows: list[asyncpg.Record], events: list[asyncpg.Record]
) -> None:
    """Check that the events of an item lead from how it was added to its row.

    The events tell its title and whether it is monitored, one change after the other.
    """
    lives: dict[str, list[asyncpg.Record]] = collections.defaultdict(list)
    for event in events:
        lives[event["resource_id"]].append(event)
    assert lives.keys() == {row["id"] for row in rows}
    for row in rows:
        added, *later = lives[row["id"]]
        assert added["type"] == "media_item.added"
        title, monitored = added["data"]["title"], added["data"]["monitored"]
        for event in later:
            if event["type"] == "media_item.updated":
                old, new = event["data"]["changes"]["title"]
                assert old == title, event
                title = new
            else:
                assert event["type"] == "media_item.monitoring_changed"
                assert event["data"]["monitored"] is not monitored, event
                monitored = not monitored
        assert (title, monitored) == (row["title"], row["monitored"])


async def test_a_persister_is_killed(
    settings: Settings, bus: Bus, pool: Pool, tmp_path: Path
) -> None:
    users = Users(Library(bus.nc, pool))
    with processes(settings, tmp_path, "service", "persist", "persist") as (_, one, other):
        victims = itertools.cycle([one, other])

        async def kill_in_the_middle_of_a_batch() -> None:
            """Its own, and that of every other writer: nothing of them is committed."""
            victim = next(victims)
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute("LOCK TABLE events IN SHARE MODE")
                await eventually(lambda: are_writing(pool, 2 * PersisterSettings().writers))
                victim.kill()
                await connection.execute(END_THEM)
            await came_back(victim)

        await killing(users, kill_in_the_middle_of_a_batch)
        await all_arrived(users, pool, bus)


WRITERS = """
FROM pg_stat_activity WHERE datname = current_database()
    AND wait_event_type = 'Lock' AND query LIKE '%INSERT INTO events%'
"""
# A session whose client is gone would finish what it waits for.
END_THEM = f"SELECT pg_terminate_backend(pid) {WRITERS}"


async def are_writing(pool: Pool, writers: int) -> bool:
    return bool(await pool.fetchval(f"SELECT count(*) >= $1 {WRITERS}", writers))


async def test_nats_is_killed(
    settings: Settings, nats: NatsServer, bus: Bus, pool: Pool, tmp_path: Path
) -> None:
    async def kill_nats() -> None:
        nats.kill()
        await asyncio.to_thread(nats.start)

    users = Users(Library(bus.nc, pool))
    with processes(settings, tmp_path, "service", "persist") as _:
        await killing(users, kill_nats)
        await all_arrived(users, pool, bus)


async def test_the_process_that_relays_is_killed(
    settings: Settings, bus: Bus, pool: Pool, tmp_path: Path
) -> None:
    users = Users(Library(bus.nc, pool))
    with processes(settings, tmp_path, "service", "service", "persist") as (one, other, _):

        async def kill_the_relay() -> None:
            await eventually(lambda: is_relaying(one) or is_relaying(other))
            relaying, standby = (one, other) if is_relaying(one) else (other, one)
            relaying.kill()
            await eventually(lambda: is_relaying(standby), within=TAKEN_OVER_WITHIN)
            relaying.start()
            await eventually(lambda: relaying.is_ready, within=30)

        await killing(users, kill_the_relay)
        await all_arrived(users, pool, bus)


def is_relaying(process: Process) -> bool:
    return process.says("lease acquired", lease="relay")


DOWNLOADS = 16
MONITOR = ("system", "download_monitor")


@pytest.fixture
def transmission() -> Iterator[daemons.Daemon]:
    with daemons.Transmission.started() as running:
        yield running


async def test_the_monitor_is_killed(
    settings: Settings, bus: Bus, pool: Pool, transmission: daemons.Daemon, tmp_path: Path
) -> None:
    """Downloads that change while the monitor is killed.

    Half of them are paused and resumed through mediabus, as fast as the real client allows. The
    others are changed in the client itself, and only while no monitor runs.
    """
    library = Library(bus.nc, pool)
    settings = with_clients(settings, transmission.settings())
    with processes(settings, tmp_path, "service", "persist", "monitor") as (_, _, monitor):
        downloads = [await initiated(library, number) for number in range(DOWNLOADS)]
        by_users, unwatched = downloads[::2], downloads[1::2]
        expected = ["download.initiated"]
        enough = asyncio.Event()
        async with (
            asyncio.TaskGroup() as tasks,
            transmission.settings().connect() as client,
        ):
            working = [tasks.create_task(toggles(library, d["id"], enough)) for d in by_users]
            for number in range(KILLS):
                await told(library, unwatched, expected)
                monitor.kill()
                for download in unwatched:
                    act = client.resume if number % 2 else client.pause
                    await act(download["client_item"])
                expected.append("download.resumed" if number % 2 else "download.paused")
                monitor.start()
            await told(library, unwatched, expected)
            enough.set()
        await eventually(lambda: _is_empty(pool), within=90, every=0.25)
        for download, operations in zip(by_users, working, strict=True):
            steps = ["download.paused", "download.resumed"] * (operations.result() // 2)
            assert await library.types(download["id"]) == ["download.initiated", *steps]
        assert sum(task.result() for task in working) > 300
        for download in unwatched:
            _, *later = await library.events(download["id"])
            assert {(event["actor_type"], event["actor_id"]) for event in later} == {MONITOR}


async def initiated(library: Library, number: int) -> Any:
    nowhere = "http://127.0.0.1:9/announce"
    shared = torrents.make_torrent(f"{number}.bin", random.randbytes(100_000), nowhere)
    content = base64.b64encode(shared.content).decode()
    request = {"title": f"Download {number}", "torrent": content}
    return await library.ask("downloads.initiate", request)


async def toggles(library: Library, download: str, enough: asyncio.Event) -> int:
    """Pauses and resumes a download until it is enough; answers how many operations that were."""
    for number in itertools.count(1):
        await library.ask("downloads.pause", {"id": download})
        await library.ask("downloads.resume", {"id": download})
        if enough.is_set():
            return 2 * number
    raise AssertionError


async def told(library: Library, downloads: list[Any], types: list[str]) -> None:
    """Waits until each of the downloads has these events and no others."""
    for download in downloads:

        async def so_far(download: Any = download) -> bool:
            found = await library.types(download["id"])
            assert found == types[: len(found)]
            return len(found) == len(types)

        await eventually(so_far, within=60, every=0.1)


async def test_the_service_is_killed(
    settings: Settings, bus: Bus, pool: Pool, tmp_path: Path
) -> None:
    users = Users(Library(bus.nc, pool))
    with processes(settings, tmp_path, "service", "persist") as (service, _):
        await killing(users, lambda: came_back(service))
        await all_arrived(users, pool, bus)

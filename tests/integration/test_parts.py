"""The parts of a process: one that ends is an error, and health works while parts are busy."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import aiohttp
import msgspec
import pytest

from mediabus.runtime.nats.bus import connect
from mediabus.runtime.nats.streams import ensure_streams
from mediabus.runtime.postgres.database import open_pool
from mediabus.runtime.process.work import Work
from mediabus.runtime.settings import (
    DatabaseSettings,
    HttpSettings,
    NatsSettings,
    Settings,
    SettingsError,
)
from mediabus.wiring.parts import Part, PartEnded, parts_of, working
from mediabus.wiring.processes import run_process
from mediabus.wiring.registry import Process
from tests.support.eventually import eventually
from tests.support.ports import free_port


async def returns(_: Work[None]) -> None:
    """A part that ends by itself."""


async def is_cancelled(_: Work[None]) -> None:
    """A part in which a library raises CancelledError."""
    raise asyncio.CancelledError


async def goes_on(_: Work[None]) -> None:
    await asyncio.Event().wait()


RETURNS, IS_CANCELLED = Part("returns", returns), Part("is_cancelled", is_cancelled)
GOES_ON = Part("goes_on", goes_on)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (RETURNS, "returns ended by itself"),
        (IS_CANCELLED, "is_cancelled was cancelled, but not by mediabus"),
    ],
)
async def test_a_part_that_ends_is_a_fault_and_named(
    settings: Settings, part: Part, words: str
) -> None:
    with pytest.raises(ExceptionGroup) as found:
        async with working(settings, 0, (part, GOES_ON)) as work:
            await asyncio.wait_for(work, 10)
    assert [(type(error), str(error)) for error in found.value.exceptions] == [(PartEnded, words)]


async def test_cancelled_parts_end_without_a_log_line(settings: Settings) -> None:
    async with working(settings, 0, (GOES_ON, GOES_ON)) as work:
        await asyncio.wait([work], timeout=0.2)
        assert not work.done()
    assert work.cancelled()


READ_ONLY = """
DO $$BEGIN
    EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database());
    PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid();
END$$
"""


async def test_a_process_is_not_ready_while_postgresql_is_read_only(settings: Settings) -> None:
    """As after a failover that left the address to a standby."""
    port = free_port()
    here = msgspec.structs.replace(settings, http=HttpSettings(port=port))

    async def says(status: int, words: str) -> bool:
        async with aiohttp.ClientSession() as session:
            answer = await session.get(f"http://127.0.0.1:{port}/readyz")
            return answer.status == status and words in await answer.text()

    async with working(here, 0, (GOES_ON,)):
        await eventually(lambda: says(200, "ok"), within=20)
        async with open_pool(settings.database, size=1) as pool:
            await pool.execute(READ_ONLY)
        await eventually(lambda: says(503, "it is a standby, or was made read-only"), within=20)


async def test_readiness_is_reported_even_if_the_pool_is_exhausted(settings: Settings) -> None:
    """As behind statements that hang: a supervisor would wait with them."""
    all_taken = asyncio.Event()

    async def takes_all(work: Work[None]) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(work.pool.get_max_size()):
                await stack.enter_async_context(work.pool.acquire())
            all_taken.set()
            await asyncio.Event().wait()

    port = free_port()
    here = msgspec.structs.replace(settings, http=HttpSettings(port=port))
    async with (
        working(here, 0, (Part("takes_all", takes_all),)),
        aiohttp.ClientSession() as session,
    ):
        await asyncio.wait_for(all_taken.wait(), 10)
        async with asyncio.timeout(20):
            answer = await session.get(f"http://127.0.0.1:{port}/readyz")
        assert (answer.status, await answer.text()) == (503, "postgresql: no answer within 2 s\n")


async def test_a_process_without_a_database_waits_for_the_streams(nats_url: str) -> None:
    port = free_port()
    settings = Settings(
        nats=NatsSettings(url=nats_url),
        database=DatabaseSettings(url="postgresql://127.0.0.1:1/none"),
        http=HttpSettings(port=port),
    )
    works: list[Work[str]] = []

    async def talks_to_nats(work: Work[str]) -> None:
        works.append(work)
        await asyncio.Event().wait()

    async def runs() -> None:
        part = Part("talks_to_nats", talks_to_nats, "parsed", needs_database=False)
        async with working(settings, 0, (part,)) as work:
            await work

    async def readiness() -> str:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}/readyz") as answer,
        ):
            return await answer.text()

    running = asyncio.create_task(runs())
    try:
        waiting = "started: waiting for the database schema or for streams\n"
        await eventually(lambda: _equals(readiness, waiting), within=30)
        async with connect(settings.nats, name="service", wait=10) as bus:
            await ensure_streams(bus, settings.nats)
        await eventually(lambda: _equals(readiness, "ok\n"), within=30)
        assert works[0].config == "parsed"
        with pytest.raises(RuntimeError, match="has no database"):
            _ = works[0].pool
    finally:
        running.cancel()
        await asyncio.wait([running])


async def _equals(ask: Callable[[], Awaitable[str]], wanted: str) -> bool:
    with contextlib.suppress(aiohttp.ClientError):
        return await ask() == wanted
    return False


async def test_parts_parse_each_configuration_once() -> None:
    calls.clear()
    both = (_process("one", "counted"), _process("two", "counted"), _process("three", "nothing"))
    parts = parts_of(Settings(), both)
    assert [(part.name, part.config) for part in parts] == [("one", 1), ("two", 1)]
    assert sorted(calls) == ["counted", "nothing"]


async def test_a_process_without_configuration_names_the_missing_key() -> None:
    process = _process("three", "nothing")._replace(absent="add [[notify]] to the settings")
    with pytest.raises(SettingsError, match=r"three` has nothing to do: add \[\[notify\]\]"):
        run_process(process, Settings())


calls: list[str] = []


def counted(_: Settings) -> int:
    calls.append("counted")
    return len(calls)


def nothing(_: Settings) -> None:
    calls.append("nothing")


def _process(name: str, parse: str) -> Process:
    return Process(
        name=name,
        summary="",
        description="",
        examples=(),
        port=0,
        run=f"{__name__}:goes_on",
        config=f"{__name__}:{parse}",
    )

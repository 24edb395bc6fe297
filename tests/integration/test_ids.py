"""A client that changes a download's id under way: it stays one download."""

import functools

import pytest

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.postgres.database import Pool
from mediabus.schemas.identity import uuid7
from tests.support.eventually import eventually
from tests.support.monitored import INSERT, has, monitored, said
from tests.support.scripted import scripted


async def test_a_download_continues_under_its_new_id(pool: Pool, bus: Bus) -> None:
    script, settings = scripted()
    download = uuid7()
    await pool.execute(INSERT, download, "active", "old", None, None)
    script.show("old", "metadata")
    async with monitored(pool, bus, settings):
        await eventually(functools.partial(_is_watched, script))
        script.items.clear()
        script.show("new", "downloading", aliases=["old"])
        await eventually(lambda: has(pool, "active", "new"))
        script.show("new", "completed", aliases=["old"])
        await eventually(lambda: has(pool, "completed", "new"))

    assert await pool.fetchval("SELECT array_agg(id) FROM downloads") == [download]
    assert [event for event, _ in await said(pool)] == ["download.completed"]


async def _is_watched(script: object) -> bool:
    return bool(getattr(script, "looks", 0))


@pytest.mark.parametrize("state", ["active", "paused", "completed"])
async def test_a_new_id_while_no_monitor_ran_emits_no_event(
    pool: Pool, bus: Bus, state: str
) -> None:
    script, settings = scripted()
    await pool.execute(INSERT, uuid7(), state, "old", None, None)
    phase = "downloading" if state == "active" else state
    script.show("new", phase, aliases=["old"])
    script.show("another", "downloading")
    async with monitored(pool, bus, settings):
        await eventually(lambda: has(pool, state, "new"))
        await eventually(lambda: has(pool, "active", "another"))

    assert [event for event, _ in await said(pool)] == ["download.discovered"]


async def test_an_alias_of_a_removed_download_is_ignored(pool: Pool, bus: Bus) -> None:
    script, settings = scripted()
    await pool.execute(INSERT, uuid7(), "removed", "old", None, None)
    script.show("new", "downloading", aliases=["old"])
    async with monitored(pool, bus, settings):
        await eventually(lambda: has(pool, "active", "new"))

    assert [event for event, _ in await said(pool)] == ["download.discovered"]
    assert await has(pool, "removed", "old")


async def test_an_alias_does_not_take_over_another_download(pool: Pool, bus: Bus) -> None:
    script, settings = scripted()
    for item in ("one", "two"):
        await pool.execute(INSERT, uuid7(), "active", item, None, None)
    script.show("one", "downloading")
    script.show("two", "paused", aliases=["one"])
    async with monitored(pool, bus, settings):
        await eventually(lambda: has(pool, "paused", "two"))

    assert await has(pool, "active", "one")

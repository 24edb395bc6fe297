"""What usenet clients do by themselves, and what the monitor makes of it."""

import functools

import msgspec

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.postgres.database import Pool
from mediabus.schemas.identity import uuid7
from mediabus.schemas.status import ClientName
from mediabus.service.downloads.bucket import read
from tests.support.eventually import eventually
from tests.support.monitored import INSERT, has, monitored, said
from tests.support.scripted import Script, scripted_usenet


async def has_looked(script: Script) -> bool:
    return bool(script.looks)


async def test_a_retry_under_a_new_id_is_one_download(pool: Pool, bus: Bus) -> None:
    script, settings = scripted_usenet()
    download = uuid7()
    await pool.execute(INSERT, download, "active", "old", None, None)
    script.show("old", "failed", title="It", reason="missing_articles", message="gone")
    async with monitored(pool, bus, settings):
        await eventually(lambda: has(pool, "failed", "old"))
        script.items.clear()
        script.show("new", "downloading", title="It")
        await eventually(lambda: has(pool, "active", "new"), within=20)
        script.show("new", "completed", title="It")
        await eventually(lambda: has(pool, "completed", "new"), within=20)

    assert await pool.fetchval("SELECT array_agg(id) FROM downloads") == [download]
    known_as = await pool.fetch("SELECT alias, download_id FROM download_aliases")
    assert [tuple(row) for row in known_as] == [("old", download)]
    told = [event for event, _ in await said(pool)]
    assert told == ["download.failed", "download.resumed", "download.completed"]


async def test_a_retry_while_no_monitor_ran_is_one_download(pool: Pool, bus: Bus) -> None:
    script, settings = scripted_usenet()
    await pool.execute(INSERT, uuid7(), "active", "old", None, None)
    script.show("old", "failed", title="It")
    async with monitored(pool, bus, settings):
        await eventually(lambda: has(pool, "failed", "old"))
    script.items.clear()
    script.show("new", "completed", title="It")
    async with monitored(pool, bus, settings):
        await eventually(lambda: has(pool, "completed", "new"), within=20)

    told = [event for event, _ in await said(pool)]
    assert told == ["download.failed", "download.resumed", "download.completed"]


async def test_a_pause_by_the_client_itself_is_the_client_s(pool: Pool, bus: Bus) -> None:
    script, settings = scripted_usenet()
    await pool.execute(INSERT, uuid7(), "active", "one", None, None)
    script.show("one", "downloading")
    async with monitored(pool, bus, settings):
        await eventually(functools.partial(has_looked, script))
        script.show("one", "paused", by_client=True, message="SABnzbd says: DUPLICATE")
        await eventually(lambda: has(pool, "paused", "one"))

    assert await said(pool) == [("download.paused", "script")]
    payload = await pool.fetchval("SELECT payload FROM outbox")
    assert msgspec.json.decode(payload)["data"]["message"] == "SABnzbd says: DUPLICATE"


async def test_a_warning_of_a_client_is_shown_while_it_lasts(pool: Pool, bus: Bus) -> None:
    script, settings = scripted_usenet()
    script.warning = "Essential modules are missing"

    async def warns(words: str | None) -> bool:
        status = (await read(bus)).clients.get(ClientName("script"))
        return status is not None and status.reachable and status.warning == words

    async with monitored(pool, bus, settings):
        await eventually(lambda: warns("Essential modules are missing"))
        script.warning = None
        await eventually(lambda: warns(None))

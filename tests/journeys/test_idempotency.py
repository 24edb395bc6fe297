"""A request with an idempotency key runs once and gets the same reply, even after a crash."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from nats.errors import NoRespondersError

from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.settings import Settings
from mediabus.schemas.identity import Actor
from mediabus.service.operations.idempotency import CLEAN, KEPT_FOR
from mediabus.wiring.registry import SERVICE
from tests.support import daemons, torrents
from tests.support.eventually import eventually
from tests.support.library import ALL, Library, Refused, library, with_clients
from tests.support.processes import processes

SHOW = {"type": "tv_show", "title": "Severance", "tmdb_id": 95396}
KEY = "Mediabus-Idempotency-Key"
BREAK = """
CREATE FUNCTION break() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the reply cannot be stored'; END $$;
CREATE TRIGGER break BEFORE UPDATE ON idempotent_requests EXECUTE FUNCTION break();
"""


@pytest.fixture
def daemon() -> Iterator[daemons.Daemon]:
    with daemons.Transmission.started() as running:
        yield running


@pytest.fixture
async def swarm(tmp_path: Path) -> AsyncIterator[torrents.Swarm]:
    async with torrents.swarm(tmp_path) as running:
        yield running


async def kept(pool: Pool) -> list[asyncpg.Record]:
    return await pool.fetch("SELECT * FROM idempotent_requests")


async def outcome(user: Library, subject: str, request: dict[str, Any], key: str) -> Any:
    """The reply, or the reason of its refusal."""
    try:
        return await user.ask(subject, request, headers={KEY: key})
    except Refused as refused:
        return refused.reason
    except NoRespondersError:
        return "no responders"


@pytest.mark.parametrize("header", [KEY, KEY.lower(), "Nats-Msg-Id"])
async def test_a_repeated_request_gets_the_same_reply(settings: Settings, header: str) -> None:
    async with library(settings) as user:
        first = await user.ask("media.create", SHOW, headers={header: "1"})
        await user.ask("media.set_monitored", {"ids": [first["id"]], "monitored": False})
        assert await user.ask("media.create", SHOW, headers={header: "1"}) == first
        other = {"type": "tv_show", "title": "Dark"}
        second = await user.ask("media.create", other, headers={header: "2"})
        deleting = {"ids": [second["id"]]}
        deleted = await user.ask("media.delete", deleting, headers={header: "3"})
        assert await user.ask("media.delete", deleting, headers={header: "3"}) == deleted
        await user.event("media_item.removed", second["id"])
        assert (await user.types()).count("media_item.added") == 2


async def test_requests_with_one_key_at_once_are_one_request(settings: Settings) -> None:
    """At two processes; one of them may be answered that the other is at work."""
    async with library(settings, (*ALL, SERVICE)) as user:
        asked = [outcome(user, "media.create", SHOW, "1") for _ in range(100)]
        replies = await asyncio.gather(*asked)
        done = [reply for reply in replies if reply != "in_progress"]
        assert done
        assert all(reply == done[0] for reply in done)
        assert len((await user.ask("media.list"))["items"]) == 1
        await user.event("media_item.added", done[0]["id"])


async def test_a_key_is_for_one_request_of_one_actor(settings: Settings) -> None:
    async with library(settings) as user:
        first = await user.ask("media.create", SHOW, headers={KEY: "1"})
        with pytest.raises(Refused, match="was used for another request") as refused:
            await user.ask("media.create", {**SHOW, "title": "Other"}, headers={KEY: "1"})
        assert (refused.value.code, refused.value.reason) == (409, "idempotency_key_reused")
        assert await outcome(user, "media.delete", {"ids": [first["id"]]}, "1") == (
            "idempotency_key_reused"
        )
        other = {"type": "tv_show", "title": "Dark"}
        mine = await user.ask("media.create", other, actor=Actor("user", "7"), headers={KEY: "1"})
        assert mine["title"] == "Dark"


async def test_the_order_of_fields_and_defaults_make_no_other_request(settings: Settings) -> None:
    async with library(settings) as user:
        body = b'{"type": "tv_show", "title": "A", "metadata": {"a": 1, "b": 2}}'
        same = b'{"metadata":{"b":2,"a":1},"monitored":true,"title":"A","type":"tv_show"}'
        first = await user.ask("media.create", body, headers={KEY: "1"})
        assert await user.ask("media.create", same, headers={KEY: "1"}) == first


async def test_an_error_that_changed_nothing_is_not_stored(settings: Settings) -> None:
    async with library(settings) as user:
        taken = await user.ask("media.create", SHOW)
        assert await outcome(user, "media.create", SHOW, "1") == "duplicate_media_item"
        assert await kept(user.pool) == []
        await user.ask("media.delete", {"ids": [taken["id"]]})
        created = await user.ask("media.create", SHOW, headers={KEY: "1"})
        assert created["id"] != taken["id"]


async def test_the_reply_and_the_change_are_one_transaction(settings: Settings) -> None:
    async with library(settings, (SERVICE,)) as user:
        await user.pool.execute(BREAK)
        assert await outcome(user, "media.create", SHOW, "1") == "internal"
        assert (await user.ask("media.list"))["items"] == []
        assert await user.pool.fetchval("SELECT count(*) FROM outbox") == 0
        await user.pool.execute("DROP FUNCTION break CASCADE")
        assert (await user.ask("media.create", SHOW, headers={KEY: "1"}))["title"] == "Severance"


async def test_without_a_key_no_reply_is_stored(settings: Settings) -> None:
    async with library(settings, (SERVICE,)) as user:
        await user.ask("media.create", SHOW)
        await user.ask("media.list", headers={KEY: "1"})
        assert await kept(user.pool) == []


@pytest.mark.parametrize("key", ["x" * 256, "\x7f", "a\tb"])
async def test_a_key_that_cannot_be_stored_is_refused(settings: Settings, key: str) -> None:
    async with library(settings, (SERVICE,)) as user:
        assert await outcome(user, "media.create", SHOW, key) == "invalid_header"


async def test_a_key_is_free_again_after_a_day(settings: Settings) -> None:
    async with library(settings, (SERVICE,)) as user:
        await user.ask("media.create", SHOW, headers={KEY: "1"})
        await user.ask("media.create", {"type": "tv_show", "title": "A"}, headers={KEY: "2"})
        age = "UPDATE idempotent_requests SET created_at = now() - interval '25 hours'"
        await user.pool.execute(age)
        again = await user.ask(
            "media.create", {"type": "tv_show", "title": "B"}, headers={KEY: "1"}
        )
        assert again["title"] == "B"
        await user.pool.execute(CLEAN, KEPT_FOR, 10)
        assert [row["key"] for row in await kept(user.pool)] == ["1"]


async def test_a_download_that_is_asked_for_again_is_the_same_download(
    settings: Settings, daemon: daemons.Daemon, swarm: torrents.Swarm
) -> None:
    shared = swarm.share(size=1000)
    request = {"title": "It", "magnet": shared.magnet}
    async with library(with_clients(settings, daemon.settings())) as user:
        replies = await asyncio.gather(
            *(user.ask("downloads.initiate", request, headers={KEY: "1"}) for _ in range(5))
        )
        assert all(reply == replies[0] for reply in replies)
        assert await user.ask("downloads.initiate", request, headers={KEY: "1"}) == replies[0]
        again = await outcome(user, "downloads.initiate", request, "2")
        assert again == "duplicate_download"
        await user.event("download.initiated", replies[0]["id"])


async def test_a_pause_that_is_repeated_after_a_resume_pauses_nothing(
    settings: Settings, daemon: daemons.Daemon, swarm: torrents.Swarm
) -> None:
    shared = swarm.share(size=30_000_000)
    async with library(with_clients(settings, daemon.settings())) as user:
        request = {"title": "It", "magnet": shared.magnet}
        download = await user.ask("downloads.initiate", request)
        one = {"id": download["id"]}
        paused = await user.ask("downloads.pause", one, headers={KEY: "1"})
        assert paused["state"] == "paused"
        await user.ask("downloads.resume", one, headers={KEY: "2"})
        assert await user.ask("downloads.pause", one, headers={KEY: "1"}) == paused
        assert (await user.ask("downloads.get", one))["state"] != "paused"
        await user.ask("downloads.cancel", {**one, "delete_files": True}, headers={KEY: "3"})
        await user.event("download.cancelled", download["id"])
        assert (await user.types(download["id"])).count("download.paused") == 1


async def test_a_no_of_the_client_is_the_answer_to_its_repetition_too(
    settings: Settings, daemon: daemons.Daemon, swarm: torrents.Swarm
) -> None:
    request = {"title": "It", "magnet": swarm.share(size=1000).magnet}
    async with library(with_clients(settings, daemon.settings())) as user:
        daemon.stop()
        assert await outcome(user, "downloads.initiate", request, "1") == "client_unavailable"
        daemon.start()
        assert await outcome(user, "downloads.initiate", request, "1") == "client_unavailable"
        assert len((await user.ask("downloads.list"))["items"]) == 1
        done = await eventually(lambda: initiated(user, request, "2"), within=20)
        assert done["state"] == "active"


async def initiated(user: Library, request: dict[str, Any], key: str) -> Any:
    reply = await outcome(user, "downloads.initiate", request, key)
    return reply if isinstance(reply, dict) else None


LATER = "UPDATE idempotent_requests SET claimed_at = now() - interval '1 hour'"


async def test_a_killed_service_does_not_start_a_download_twice(
    settings: Settings, daemon: daemons.Daemon, swarm: torrents.Swarm, tmp_path: Path
) -> None:
    request = {"title": "It", "magnet": swarm.share(size=1000).magnet}
    with_client = with_clients(settings, daemon.settings())
    with processes(with_client, tmp_path, "service") as [service]:
        async with library(with_client, ALL[1:]) as user:
            await eventually(lambda: is_served(user), within=10)
            daemon.pause()
            asking = asyncio.create_task(outcome(user, "downloads.initiate", request, "1"))
            await eventually(lambda: user.pool.fetchval("SELECT count(*) FROM downloads"))
            service.kill()
            asking.cancel()
            await asyncio.wait([asking])
            daemon.resume()
            service.start()
            await eventually(lambda: is_served(user), within=30)
            assert await outcome(user, "downloads.initiate", request, "1") == "in_progress"
            await user.pool.execute(OLD_ASK)  # what the monitor gives a service is two minutes
            first = await eventually(lambda: answered_later(user, request), within=60)
            assert len((await user.ask("downloads.list"))["items"]) == 1
            assert await outcome(user, "downloads.initiate", request, "1") == first
            types = await user.types()
            assert types.count("download.initiated") + types.count("download.failed") <= 1


OLD_ASK = "UPDATE downloads SET asked_at = asked_at - interval '3 minutes'"


async def answered_later(user: Library, request: dict[str, Any]) -> Any:
    """The reply, or that of a client's failure, once the monitor knows."""
    await user.pool.execute(LATER)
    reply = await outcome(user, "downloads.initiate", request, "1")
    return None if reply == "in_progress" else reply


async def is_served(user: Library) -> bool:
    return isinstance(await outcome(user, "downloads.list", {}, "0"), dict)


async def test_a_download_is_stored_together_with_the_note_in_its_claim(
    settings: Settings, daemon: daemons.Daemon, swarm: torrents.Swarm
) -> None:
    """Else a service killed between the two would answer the key twice, in different words."""
    request = {"title": "It", "magnet": swarm.share(size=1000).magnet}
    async with library(with_clients(settings, daemon.settings())) as user:
        await user.pool.execute(BREAK.replace("EXECUTE", "FOR EACH ROW EXECUTE"))
        assert await outcome(user, "downloads.initiate", request, "1") == "internal"
        assert await user.pool.fetchval("SELECT count(*) FROM downloads") == 0


async def test_a_request_interrupted_at_its_start_is_repeated(
    settings: Settings, daemon: daemons.Daemon, swarm: torrents.Swarm
) -> None:
    request = {"title": "It", "magnet": swarm.share(size=1000).magnet}
    async with library(with_clients(settings, daemon.settings())) as user:
        first = await user.ask("downloads.initiate", request, headers={KEY: "1"})
        # As if it had been killed right after the claim: nothing but that is there.
        await user.ask("downloads.cancel", {"id": first["id"]})
        await user.event("download.cancelled", first["id"])
        await user.pool.execute("DELETE FROM downloads")
        await user.pool.execute("UPDATE idempotent_requests SET reply = NULL, changed = false")
        await user.pool.execute(LATER)
        second = await user.ask("downloads.initiate", request, headers={KEY: "1"})
        assert (second["id"], second["state"]) == (first["id"], "active")

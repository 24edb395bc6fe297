"""What users do with media items becomes events in PostgreSQL, with who did it and to what."""

from typing import Any

import pytest

from mediabus.runtime.settings import Settings
from mediabus.schemas.identity import Actor
from tests.support.library import Refused, library

DUNE = {"type": "movie", "title": "Dune", "year": 2021, "tmdb_id": 438631, "imdb_id": "tt1160419"}


async def test_adding_a_movie_emits_an_event(settings: Settings) -> None:
    async with library(settings) as user:
        item = await user.ask("media.create", DUNE)
        event = await user.event("media_item.added", item["id"])
    assert (event["actor_type"], event["actor_id"]) == ("user", "42")
    assert (event["resource_type"], event["category"]) == ("media_item", "media")
    assert event["data"] == {
        "title": "Dune",
        "media_type": "movie",
        "year": 2021,
        "tmdb_id": 438631,
        "imdb_id": "tt1160419",
        "monitored": True,
    }


async def test_an_update_event_has_old_and_new_values(settings: Settings) -> None:
    async with library(settings) as user:
        item = await user.ask("media.create", DUNE)
        changed = {"id": item["id"], "title": "Dune: Part One", "metadata": {"runtime": 155}}
        headers = {"Mediabus-Correlation-Id": "request-7"}
        updated = await user.ask(
            "media.update", changed, actor=Actor("job", "tidy"), headers=headers
        )
        event = await user.event("media_item.updated", item["id"])
        # The same once more changes nothing, so it emits no event.
        await user.ask("media.update", changed)
        await user.ask("media.update", {"id": item["id"], "year": 2022})
        await user.events()
        types = await user.types(item["id"])
    assert updated["title"] == "Dune: Part One"
    assert (event["actor_type"], event["actor_id"]) == ("job", "tidy")
    assert event["correlation_id"] == "request-7"
    assert event["data"]["changes"] == {
        "title": ["Dune", "Dune: Part One"],
        "metadata": [{}, {"runtime": 155}],
    }
    assert types.count("media_item.updated") <= 2


async def test_removing_items_emits_one_event_each(settings: Settings) -> None:
    async with library(settings) as user:
        shows = [{"type": "tv_show", "title": title} for title in ("Severance", "Dark", "Andor")]
        ids = [(await user.ask("media.create", show))["id"] for show in shows]
        await user.ask("media.delete", {"ids": ids[:1]})
        await user.ask("media.delete", {"ids": ids[1:]})
        events = [await user.event("media_item.removed", item_id) for item_id in ids]
        left = await user.ask("media.list")
    assert [event["data"]["title"] for event in events] == ["Severance", "Dark", "Andor"]
    assert {(event["actor_type"], event["actor_id"]) for event in events} == {("user", "42")}
    assert left["items"] == []


async def test_monitoring_emits_an_event_for_each_item(settings: Settings) -> None:
    async with library(settings) as user:
        titles = ("Severance", "Dark", "Andor")
        ids = [
            (await user.ask("media.create", {"type": "tv_show", "title": title}))["id"]
            for title in titles
        ]
        await user.ask("media.set_monitored", {"ids": ids[:1], "monitored": False})
        single = await user.event("media_item.monitoring_changed", ids[0])
        changed = await user.ask("media.set_monitored", {"ids": ids, "monitored": False})
        bulk = [await user.event("media_item.monitoring_changed", item_id) for item_id in ids[1:]]
    assert single["data"]["monitored"] is False
    assert [event["data"]["title"] for event in bulk] == ["Dark", "Andor"]
    # The first was not monitored any more: it did not change, and nothing more was said of it.
    assert {item["id"] for item in changed["items"]} == set(ids[1:])


async def test_bad_requests_name_the_field_and_change_nothing(settings: Settings) -> None:
    async with library(settings) as user:
        dune = await user.ask("media.create", DUNE)
        unknown = "01a20362-8ad5-7edb-ab30-b204b10c0f03"
        cases: list[tuple[str, Any, int, str | None]] = [
            ("media.create", {"type": "movie", "title": "Dune"}, 400, "year"),
            ("media.create", {**DUNE, "year": 1800}, 400, "year"),
            ("media.create", {**DUNE, "year": 2200}, 400, "year"),
            ("media.create", {**DUNE, "year": "soon"}, 400, "year"),
            ("media.create", {**DUNE, "title": " "}, 400, "title"),
            ("media.create", {**DUNE, "type": "song"}, 400, "type"),
            ("media.create", {**DUNE, "imdb_id": "1160419"}, 400, "imdb_id"),
            ("media.create", {**DUNE, "titel": "Dune"}, 400, "titel"),
            ("media.create", {**DUNE, "title": "Du\0ne"}, 400, "title"),
            ("media.create", DUNE, 409, "tmdb_id"),
            ("media.update", {"id": dune["id"], "year": None}, 400, "year"),
            ("media.update", {"id": unknown, "title": "x"}, 404, "id"),
            ("media.delete", {"ids": [dune["id"], unknown]}, 404, "id"),
            ("media.delete", {"ids": []}, 400, "ids"),
            ("media.set_monitored", {"ids": [unknown], "monitored": True}, 404, "id"),
            ("media.get", {"id": unknown}, 404, "id"),
            ("media.get", {"id": "dune"}, 400, "id"),
            ("media.get", b"not json", 400, None),
            ("media.get", b"[" * 100_000, 400, None),
            ("media.create", b"{" + b" " * 300_000 + b"}", 400, None),
        ]
        for subject, request, code, field in cases:
            with pytest.raises(Refused) as refused:
                await user.ask(subject, request)
            assert (refused.value.code, refused.value.field) == (code, field), request
            assert refused.value.message
        items = (await user.ask("media.list"))["items"]
        await user.event("media_item.added")
        types = await user.types()
    assert [item["id"] for item in items] == [dune["id"]]
    assert types == ["media_item.added"]


async def test_a_request_that_names_half_an_actor_is_refused(settings: Settings) -> None:
    async with library(settings) as user:
        for headers in ({"Mediabus-Actor-Id": "42"}, {"Mediabus-Actor-Type": "user"}):
            with pytest.raises(Refused) as refused:
                await user.ask("media.create", DUNE, actor=None, headers=headers)
            assert refused.value.code == 400
        item = await user.ask("media.create", DUNE, actor=None)
        event = await user.event("media_item.added", item["id"])
    assert (event["actor_type"], event["actor_id"]) == ("system", "api")


async def test_lists_come_in_pages(settings: Settings) -> None:
    async with library(settings) as user:
        for number in range(5):
            await user.ask("media.create", {"type": "tv_show", "title": f"Show {number}"})
        first = await user.ask("media.list", {"limit": 2})
        second = await user.ask("media.list", {"limit": 2, "after": first["next"]})
        third = await user.ask("media.list", {"limit": 2, "after": second["next"]})
        found = await user.ask("media.list", {"search": "show 3"})
    pages = [[item["title"] for item in page["items"]] for page in (first, second, third)]
    assert pages == [["Show 0", "Show 1"], ["Show 2", "Show 3"], ["Show 4"]]
    assert third["next"] is None
    assert [item["title"] for item in found["items"]] == ["Show 3"]


@pytest.mark.parametrize("number", [b"1e15", b"1e300", b"1e-99"])
async def test_metadata_too_large_to_store_is_refused(settings: Settings, number: bytes) -> None:
    large = b'"metadata": {"numbers": [' + b",".join([number] * 40_000) + b"]}}"
    async with library(settings) as user:
        item = await user.ask("media.create", DUNE)
        for subject, request in (
            ("media.create", b'{"type": "tv_show", "title": "A", ' + large),
            ("media.update", f'{{"id": "{item["id"]}", '.encode() + large),
        ):
            with pytest.raises(Refused, match="numbers written out") as refused:
                await user.ask(subject, request)
            assert (refused.value.code, refused.value.field) == (400, "metadata")
        assert await user.ask("media.get", {"id": item["id"]}) == item
        assert len((await user.ask("media.list"))["items"]) == 1


async def test_oversized_rows_of_an_older_version_can_be_reduced(
    settings: Settings,
) -> None:
    async with library(settings) as user:
        item = await user.ask("media.create", DUNE)
        large = {"text": "x" * 1_500_000}
        await user.pool.execute("UPDATE media_items SET metadata = $1", large)
        await user.ask("media.update", {"id": item["id"], "metadata": {"a": 1}})
        event = await user.event("media_item.updated", item["id"])
        old, new = event["data"]["changes"]["metadata"]
        assert (list(old), new) == (["mediabus_omitted_bytes"], {"a": 1})


async def test_a_change_with_too_large_a_reply_is_refused_beforehand(
    settings: Settings,
) -> None:
    large = {"text": "x" * 250_000}
    async with library(settings) as user:
        shows = [{"type": "tv_show", "title": f"Show {n}", "metadata": large} for n in range(5)]
        ids = [(await user.ask("media.create", show))["id"] for show in shows]
        with pytest.raises(Refused, match="nothing was changed: the reply would have") as refused:
            await user.ask("media.set_monitored", {"ids": ids, "monitored": False})
        assert refused.value.reason == "reply_too_large"
        kept = "SELECT count(*) FROM media_items WHERE monitored"
        assert await user.pool.fetchval(kept) == 5
        changed = await user.ask("media.set_monitored", {"ids": ids[:2], "monitored": False})
        assert len(changed["items"]) == 2
        await user.pool.execute("UPDATE media_items SET metadata = $1", {"t": "x" * 1_500_000})
        with pytest.raises(Refused, match="reduce their metadata first"):
            await user.ask("media.update", {"id": ids[4], "title": "Other"})
        small = {"id": ids[4], "title": "Other", "metadata": {}}
        assert (await user.ask("media.update", small))["title"] == "Other"

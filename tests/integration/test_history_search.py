"""Search the data of events, which has no index: bounded in time, without a gap or a repetition."""

import datetime
import itertools
from typing import Any, Final

import msgspec
import pytest

from mediabus.consumers.event_row import EventRow
from mediabus.consumers.history import query
from mediabus.consumers.history.query import History
from mediabus.consumers.persister.store import EventStore
from mediabus.runtime.postgres.database import Pool
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import MediaItemRemoved
from mediabus.schemas.identity import Actor, Resource
from mediabus.schemas.operations.requests import HistoryEvent, ListHistory, Page

ANNA: Final = Actor("user", "anna")
NOW: Final = datetime.datetime.now(datetime.UTC)
DAY: Final = datetime.timedelta(days=1)


def removed(title: str, days_ago: float) -> Envelope:
    event = MediaItemRemoved(title=title, media_type="movie", monitored=True)
    envelope = Envelope.of(event, actor=ANNA, resource=Resource("media_item", title))
    return msgspec.structs.replace(envelope, time=NOW - days_ago * DAY)


@pytest.fixture
async def titles(pool: Pool) -> list[str]:
    """Events of two years, each eighth of which has the word; the titles of those, newest first."""
    days = [number * 7.3 for number in range(100)]
    # Several at one moment, so that a page may end between them.
    days += [days[40]] * 9
    stored = [
        removed(f"The Needle {at}" if number % 8 == 0 or number >= 100 else f"Film {at}", at)
        for number, at in enumerate(days)
    ]
    rows = [EventRow.of(envelope, number) for number, envelope in enumerate(stored, start=1)]
    assert set(await EventStore(pool).store(rows)) <= {None}
    found = [it for it in stored if "Needle" in str(it.fields()["title"])]
    found.sort(key=lambda it: (it.time, it.id), reverse=True)
    return [str(it.id) for it in found]


async def page(pool: Pool, **wanted: Any) -> Page[HistoryEvent]:
    return await History(pool).list(ListHistory(**wanted), ANNA, {})


async def pages(pool: Pool, **wanted: Any) -> list[list[str]]:
    """The ids on each page, until the last one."""
    found: list[list[str]] = []
    after = None
    while True:
        one = await page(pool, **wanted, after=after)
        found.append([str(event.id) for event in one.items])
        after = one.next
        if after is None:
            return found


@pytest.mark.parametrize("limit", [1, 3, 500])
async def test_all_pages_of_a_search_have_each_match_once(
    pool: Pool, titles: list[str], limit: int
) -> None:
    found = await pages(pool, title="needle", limit=limit)
    assert list(itertools.chain(*found)) == titles
    assert all(len(ids) == limit for ids in found[:-1])


async def test_a_search_that_takes_too_long_ends_its_page_and_continues(
    pool: Pool, titles: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "SEARCH_WITHIN", 0.0)
    found = await pages(pool, title="needle", limit=500)
    assert list(itertools.chain(*found)) == titles
    assert len(found) > 100  # each searched one stretch: a day


async def test_a_search_keeps_to_the_other_filters(pool: Pool, titles: list[str]) -> None:
    since, until = NOW - 400 * DAY, NOW - 100 * DAY
    (found,) = await pages(pool, title="needle", since=since, until=until, limit=500)
    assert found == [it for it in titles if it in set(found)]
    assert 0 < len(found) < len(titles)
    assert await pages(pool, title="needle", type="media_item.added", limit=500) == [[]]
    assert await pages(pool, title="needle", client="home", limit=500) == [[]]
    assert await pages(pool, title="no such title", limit=500) == [[]]


async def test_a_search_in_an_empty_history_finds_nothing(pool: Pool) -> None:
    assert await pages(pool, title="needle") == [[]]

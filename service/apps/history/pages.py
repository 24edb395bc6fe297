"""Fetch the rows of a history, a bounded number at a time."""

import datetime
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from mediabus.service.apps.history.rows import Row
from mediabus.service.apps.http import AppHttp

PAGE: Final = 1000
"""Rows of one page."""

MAX_PAGE: Final = 10 * PAGE
"""Rows of one page if the application ignores its size."""

MAX_SINCE: Final = datetime.timedelta(days=1)
"""The longest time that is read with one request, which has no pages. It is at most some thousand
rows."""


MAX_ROWS: Final = 100_000
"""Rows of an answer without pages."""

MAX_PAGES: Final = 100_000
"""Pages of a history: a hundred million rows."""

MAX_IDLE: Final = 50
"""Answers in succession without a new row."""


class _Page(msgspec.Struct, rename="camel"):
    total_records: int = 0
    records: list[Row] = []


async def rows_since(http: AppHttp, date: datetime.datetime) -> AsyncIterator[list[Row]]:
    """Yield all rows since a date, the oldest first."""
    if datetime.datetime.now(datetime.UTC) - date > MAX_SINCE:
        async for rows in rows_by_page(http, date):
            yield rows
        return
    rows = await http.get("history/since", list[Row], date=_text(date))
    if len(rows) > MAX_ROWS:
        http.raise_protocol_error(f"its history of a day has more than {MAX_ROWS} rows")
    rows.sort(key=lambda row: (row.at, row.id))
    for start in range(0, len(rows), PAGE):
        yield rows[start : start + PAGE]


async def rows_by_page(http: AppHttp, date: datetime.datetime) -> AsyncIterator[list[Row]]:
    """Yield all rows since a date, the oldest first, by pages.

    A page is an offset. New rows come after the last page. Rows that are deleted meanwhile move
    the later ones to earlier pages: the number of all rows shows that, and the page is looked up
    again by date.

    Raises:
        ClientUnavailable: the application does not answer, or its pages do not end.
    """
    newest, seen, idle = date, set[int](), 0
    number, total = await _first_page(http, date)
    while True:
        page = await _page(http, number)
        is_moved = page.total_records < total
        rows = [] if is_moved else _unseen(page.records, newest, seen)
        if rows:
            yield rows
            last = max(row.at for row in rows)
            seen = {row.id for row in rows if row.at == last} | (seen if last == newest else set())
            newest = last
        if is_moved:
            number, total = await _first_page(http, newest)
        elif len(page.records) < PAGE:
            return
        else:
            number, total = number + 1, page.total_records
        idle = 0 if rows else idle + 1
        if idle > MAX_IDLE or number > MAX_PAGES or len(seen) > MAX_ROWS:
            http.raise_protocol_error("the pages of its history do not end")


def _unseen(records: list[Row], newest: datetime.datetime, seen: set[int]) -> list[Row]:
    """Return the rows that come after the newest one, or at the same time."""
    later = [row for row in records if row.at >= newest]
    return [row for row in later if row.at > newest or row.id not in seen]


async def _first_page(http: AppHttp, date: datetime.datetime) -> tuple[int, int]:
    """Return the number of the page in which a date is, by bisection, and the number of rows."""
    total = min((await _page(http, 1)).total_records, MAX_PAGES * PAGE)
    low, high = 1, max(1, -(-total // PAGE))
    while low < high:
        middle = (low + high) // 2
        records = (await _page(http, middle)).records
        if records and records[-1].at < date:
            low = middle + 1
        else:
            high = middle
    return low, total


async def _page(http: AppHttp, number: int) -> _Page:
    page = await http.get(
        "history",
        _Page,
        page=str(number),
        pageSize=str(PAGE),
        sortKey="date",
        sortDirection="ascending",
    )
    if len(page.records) > MAX_PAGE:
        http.raise_protocol_error(f"a page of {PAGE} rows has {len(page.records)}")
    return page


def _text(date: datetime.datetime) -> str:
    return date.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

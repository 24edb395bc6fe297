"""Fetch the rows of a history, a bounded number at a time."""

import datetime
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from mediabus.service.apps.history.rows import Row
from mediabus.service.apps.http import AppHttp

PAGE: Final = 1000
"""Rows of one page."""

MAX_SINCE: Final = datetime.timedelta(days=1)
"""The longest time that is read with one request, which has no pages. It is at most some thousand
rows."""


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
    rows.sort(key=lambda row: (row.at, row.id))
    for start in range(0, len(rows), PAGE):
        yield rows[start : start + PAGE]


async def rows_by_page(http: AppHttp, date: datetime.datetime) -> AsyncIterator[list[Row]]:
    """Yield all rows since a date, the oldest first, by pages.

    A page is an offset. New rows come after the last page. Rows that are deleted meanwhile move
    the later ones to earlier pages: the number of all rows shows that, and the page is looked up
    again by date.
    """
    newest, seen = date, set[int]()
    number, total = await _first_page(http, date)
    while True:
        page = await _page(http, number)
        if page.total_records < total:
            number, total = await _first_page(http, newest)
            continue
        total = page.total_records
        later = [row for row in page.records if row.at >= newest]
        rows = [row for row in later if row.at > newest or row.id not in seen]
        if rows:
            yield rows
            last = max(row.at for row in rows)
            seen = {row.id for row in rows if row.at == last} | (seen if last == newest else set())
            newest = last
        if len(page.records) < PAGE:
            return
        number += 1


async def _first_page(http: AppHttp, date: datetime.datetime) -> tuple[int, int]:
    """Return the number of the page in which a date is, by bisection, and the number of rows."""
    total = (await _page(http, 1)).total_records
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
    return await http.get(
        "history",
        _Page,
        page=str(number),
        pageSize=str(PAGE),
        sortKey="date",
        sortDirection="ascending",
    )


def _text(date: datetime.datetime) -> str:
    return date.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

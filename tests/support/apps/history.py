"""The history of an application: rows with ids, and the two ways to read them."""

import bisect
import datetime
from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]


class History:
    """Rows in the order of their dates. A row has ``owner``, its series, movie or artist."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._next_id = 1

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, date: datetime.datetime, owner: int | None, fields: Row) -> Row:
        """Insert a row, and return it."""
        row = {**fields, "id": self._next_id, "date": date, "owner": owner}
        self._next_id += 1
        if self._rows and date < self._rows[-1]["date"]:
            bisect.insort(self._rows, row, key=lambda other: other["date"])
        else:
            self._rows.append(row)
        return row

    def forget(self, owner: int) -> None:
        """Delete all rows of a series, movie or artist, as deleting it does."""
        self._rows = [row for row in self._rows if row["owner"] != owner]

    def rebuild(self) -> None:
        """Start again with an empty database, whose ids begin at 1."""
        self._rows, self._next_id = [], 1

    def since(self, date: datetime.datetime, event_type: str | None) -> list[Row]:
        """Return the rows that are not older than a date, the oldest first."""
        start = bisect.bisect_left(self._rows, date, key=lambda row: row["date"])
        return [row for row in self._rows[start:] if event_type in {None, row["eventType"]}]

    def page(self, number: int, size: int, *, ascending: bool) -> list[Row]:
        """Return a page by offset, which moves while rows arrive. The newest come first."""
        rows: Iterable[Row] = self._rows if ascending else reversed(self._rows)
        return list(rows)[(number - 1) * size : number * size]

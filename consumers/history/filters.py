"""Turn the filters of a request into the conditions of a statement."""

import datetime
from typing import Final

import msgspec

from mediabus.runtime.api.serve import OperationError, problem
from mediabus.schemas.operations.requests import CountHistory, HistoryTimeline, ListHistory

CONDITIONS: Final = {
    "category": "category = $?",
    "type": "type = $?",
    "severity": "severity = $?",
    "actor_type": "actor_type = $?",
    "actor_id": "actor_id = $?",
    "resource_type": "resource_type = $?",
    "resource_id": "resource_id = $?",
    "client": "data ->> 'client' = $?",
    "title": "strpos(lower(coalesce(data ->> 'media_title', data ->> 'title')), lower($?)) > 0",
    "since": "occurred_at >= $?",
    "until": "occurred_at < $?",
}
"""The condition of each filter. A query contains only the requested ones, so that PostgreSQL plans
each combination separately."""

EXTENSION: Final = "extensions ->> $? = $?"
"""The condition of an extension attribute of any type."""


class Query:
    """Builds a statement from constants, with its arguments."""

    def __init__(self) -> None:
        self.conditions: list[str] = []
        self.args: list[object] = []

    def add(self, fragment: str, *args: object) -> str:
        """Add arguments. Return the fragment with its ``$?`` numbered."""
        for arg in args:
            self.args.append(arg)
            fragment = fragment.replace("$?", f"${len(self.args)}", 1)
        return fragment

    def where(self) -> str:
        """Return the WHERE clause; empty without conditions."""
        return " WHERE " + " AND ".join(self.conditions) if self.conditions else ""


def filtered(request: ListHistory | CountHistory | HistoryTimeline) -> Query:
    """Return a query with the conditions of a request. Raises OperationError."""
    query = Query()
    for name, condition in CONDITIONS.items():
        value = getattr(request, name)
        if isinstance(value, datetime.datetime):
            value = in_utc(name, value)
        if value is not None:
            query.conditions.append(query.add(condition, value))
    for name, value in (request.extensions or {}).items():
        query.conditions.append(query.add(EXTENSION, name, _canonical(value)))
    return query


def _canonical(value: str | int) -> str:
    """Return an attribute's value in the canonical text form of CloudEvents."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def in_utc(field: str, moment: datetime.datetime) -> datetime.datetime:
    """Return a moment in UTC. Raises OperationError if UTC has no such year."""
    try:
        return moment.astimezone(datetime.UTC)
    except OverflowError as error:
        message = f"{field} must be within the years 1 to 9999 in UTC"
        raise OperationError(problem(400, "invalid_request", message, field)) from error

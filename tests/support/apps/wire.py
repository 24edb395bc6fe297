"""How the applications write JSON: no nulls, but false and 0; dates in UTC, in whole seconds."""

import datetime
import json
from typing import Any


def without_nulls(value: Any) -> Any:
    """Remove members that are null, at every level."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def indented(value: Any) -> bytes:
    """Return the body of a webhook."""
    return json.dumps(without_nulls(value), indent=2).encode()


def date_text(moment: datetime.datetime) -> str:
    """Return a date as the APIs write it. They drop the fraction of a second."""
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parsed_date(text: str) -> datetime.datetime:
    """Parse the date of a query. A date without an offset is UTC."""
    moment = datetime.datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)

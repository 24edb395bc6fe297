"""A message at the top of a page: what an action did, or why it failed."""

from typing import NamedTuple

from mediabus.api.errors import NoAnswer, OperationFailed
from mediabus.schemas.events.base import Severity


class Notice(NamedTuple):
    """A message. ``link`` is a path below the base, with more about it."""

    severity: Severity
    text: str
    link: str | None = None


def failure(error: OperationFailed | NoAnswer) -> tuple[Notice, int]:
    """Return the notice for a failed operation, and the HTTP status of the page."""
    status = error.code if isinstance(error, OperationFailed) else 503
    return Notice("error", str(error)), status

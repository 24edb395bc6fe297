"""Requests and replies of the operations on applications."""

import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from mediabus.schemas.operations.requests import Request

AppName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class ListApps(Request, frozen=True, kw_only=True):
    """``apps.list``: the applications of the settings, by name."""


class ImportHistory(Request, frozen=True, kw_only=True):
    """``apps.import``: read the history of an application from ``since`` on."""

    name: AppName
    since: Annotated[datetime.datetime, Meta(tz=True)]


class AppState(msgspec.Struct, frozen=True, kw_only=True):
    """An application, as mediabus last saw it.

    ``since`` is when it became reachable or unreachable, for ``reason``. ``read_at`` is when its
    history was last read, ``newest_at`` the date of the newest row, ``grabbed_at`` that of the
    newest grabbed release, and ``webhook_at`` when the last webhook came. While its past is
    imported, ``backfill_at`` moves from ``backfill_since`` to ``backfill_until``, and
    ``backfill_rows`` counts the rows. ``reachable`` is None for an application that was not called
    yet.
    """

    name: str
    kind: str
    version: str | None = None
    reachable: bool | None = None
    since: datetime.datetime | None = None
    reason: str | None = None
    error_message: str | None = None
    read_at: datetime.datetime | None = None
    newest_at: datetime.datetime | None = None
    grabbed_at: datetime.datetime | None = None
    webhook_at: datetime.datetime | None = None
    imported_since: datetime.datetime | None = None
    backfill_since: datetime.datetime | None = None
    backfill_until: datetime.datetime | None = None
    backfill_at: datetime.datetime | None = None
    backfill_rows: int = 0


class AppList(msgspec.Struct, frozen=True, kw_only=True):
    """All applications."""

    items: list[AppState]

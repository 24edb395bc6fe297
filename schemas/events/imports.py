"""Events about importing downloads into the library."""

from typing import ClassVar
from uuid import UUID

from mediabus.schemas.events.base import Category, Event, Icon, Severity


class DownloadImportBlocked(Event, frozen=True, kw_only=True, omit_defaults=True):
    """An application cannot import a download without a person; ``reasons`` are its own words."""

    category: ClassVar[Category] = "downloads"
    type = "download.import_blocked"
    severity: ClassVar[Severity] = "warning"
    icon: ClassVar[Icon] = "alert"
    sentence: ClassVar[str] = "{app} cannot import {name}: it needs a person"

    title: str
    app: str
    reasons: list[str]
    client: str | None = None
    client_item: str | None = None
    download_id: UUID | None = None
    media_item_id: UUID | None = None
    media_title: str | None = None
    size: int | None = None
    quality: str | None = None


class DownloadImported(Event, frozen=True, kw_only=True, omit_defaults=True):
    """An application imported a download into the library; ``files`` is how many files.

    ``upgrade`` is true if they replaced worse ones.
    """

    category: ClassVar[Category] = "downloads"
    type = "download.imported"
    icon: ClassVar[Icon] = "check"
    sentence: ClassVar[str] = "{app} imported {name}[, {files} files]"

    title: str
    app: str
    files: int
    destination: str | None = None
    client: str | None = None
    client_item: str | None = None
    download_id: UUID | None = None
    media_item_id: UUID | None = None
    media_title: str | None = None
    size: int | None = None
    quality: str | None = None
    upgrade: bool | None = None


ImportEvent = DownloadImportBlocked | DownloadImported

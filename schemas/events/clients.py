"""Whether the download clients can be reached."""

from typing import ClassVar

from schemas.events.base import Category, Event, Severity
from schemas.status import UnreachableReason


class _DownloadClientEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    """``kind`` is the program, such as ``qbittorrent``."""

    category: ClassVar[Category] = "downloads"

    client: str
    kind: str


class DownloadClientUnreachable(
    _DownloadClientEvent, frozen=True, kw_only=True, omit_defaults=True
):
    """A download client could not be asked for a while; its downloads keep their state."""

    type = "download_client.unreachable"
    severity: ClassVar[Severity] = "error"

    reason: UnreachableReason | None = None
    error_message: str | None = None


class DownloadClientRecovered(_DownloadClientEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A download client answers again, ``away_seconds`` after it first did not."""

    type = "download_client.recovered"

    away_seconds: float | None = None


DownloadClientEvent = DownloadClientUnreachable | DownloadClientRecovered

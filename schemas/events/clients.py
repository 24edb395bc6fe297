"""Events about the reachability of download clients."""

from typing import ClassVar

from mediabus.schemas.events.base import Category, Event, Icon, Severity
from mediabus.schemas.status import UnreachableReason


class _DownloadClientEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A download client; ``kind`` is its program, such as ``qbittorrent``."""

    category: ClassVar[Category] = "downloads"

    client: str
    kind: str


class DownloadClientUnreachable(
    _DownloadClientEvent, frozen=True, kw_only=True, omit_defaults=True
):
    """A download client has been unreachable for a while; its downloads keep their state."""

    type = "download_client.unreachable"
    severity: ClassVar[Severity] = "error"
    icon: ClassVar[Icon] = "unplug"
    sentence: ClassVar[str] = "{client} is unreachable[: {why}]"

    reason: UnreachableReason | None = None
    error_message: str | None = None


class DownloadClientRecovered(_DownloadClientEvent, frozen=True, kw_only=True, omit_defaults=True):
    """An unreachable download client answers again, after ``away_seconds`` seconds."""

    type = "download_client.recovered"
    icon: ClassVar[Icon] = "plug"
    sentence: ClassVar[str] = "{client} answers again[ after {away_seconds}]"

    away_seconds: float | None = None


DownloadClientEvent = DownloadClientUnreachable | DownloadClientRecovered

"""Lidarr: music."""

from typing import Any, ClassVar, Final

from mediabus.service.apps.arr_webhooks import read_arr_webhook
from mediabus.service.apps.port import Webhook
from mediabus.service.apps.settings import AppSettings

WAKING: Final = frozenset(
    {
        "Grab",
        "ApplicationUpdate",
        "Health",
        "HealthRestored",
        "Download",
        "DownloadFailure",
        "ImportFailure",
        "Rename",
        "Retag",
        "ArtistAdd",
        "ArtistDelete",
        "AlbumDelete",
    }
)
"""Webhooks about what the history or the library shows, too."""


class LidarrSettings(AppSettings, frozen=True, kw_only=True, tag="lidarr"):
    """A Lidarr server."""

    program: ClassVar[str] = "Lidarr"
    api: ClassVar[str] = "api/v1"

    def read_webhook(self, body: dict[str, Any]) -> Webhook:
        return read_arr_webhook(self.name, body, WAKING)

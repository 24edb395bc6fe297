"""Sonarr: series."""

from typing import Any, ClassVar, Final

from mediabus.schemas.events.media import MediaType
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
        "Rename",
        "EpisodeFileDelete",
        "SeriesAdd",
        "SeriesDelete",
    }
)
"""Webhooks about what the history or the library shows, too."""


UNRECORDED: Final = frozenset({"manualOverride", "noLinkedEpisodes"})
"""``deleteReason`` of files that are deleted without a row in the history (HistoryService)."""


class SonarrSettings(AppSettings, frozen=True, kw_only=True, tag="sonarr"):
    """A Sonarr server."""

    program: ClassVar[str] = "Sonarr"
    api: ClassVar[str] = "api/v3"
    library: ClassVar[str | None] = "series"
    media_type: ClassVar[MediaType] = "tv_show"

    def read_webhook(self, body: dict[str, Any]) -> Webhook:
        return read_arr_webhook(self.name, body, WAKING, UNRECORDED)

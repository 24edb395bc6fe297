"""Radarr: movies."""

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
        "Rename",
        "MovieFileDelete",
        "MovieAdded",
        "MovieDelete",
    }
)
"""Webhooks about what the history or the library shows, too."""


UNRECORDED: Final = frozenset({"noLinkedEpisodes"})
"""``deleteReason`` of files that are deleted without a row in the history (HistoryService)."""


class RadarrSettings(AppSettings, frozen=True, kw_only=True, tag="radarr"):
    """A Radarr server."""

    program: ClassVar[str] = "Radarr"
    api: ClassVar[str] = "api/v3"
    library: ClassVar[str | None] = "movie"

    def read_webhook(self, body: dict[str, Any]) -> Webhook:
        return read_arr_webhook(self.name, body, WAKING, UNRECORDED)

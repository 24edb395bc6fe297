"""Prowlarr: indexers."""

from typing import Any, ClassVar, Final

from mediabus.service.apps.arr_webhooks import read_arr_webhook
from mediabus.service.apps.port import Webhook
from mediabus.service.apps.settings import AppSettings

WAKING: Final = frozenset({"ApplicationUpdate", "Grab", "Health", "HealthRestored"})
"""Webhooks about what the history or the library shows, too."""


class ProwlarrSettings(AppSettings, frozen=True, kw_only=True, tag="prowlarr"):
    """A Prowlarr server."""

    program: ClassVar[str] = "Prowlarr"
    api: ClassVar[str] = "api/v1"

    def read_webhook(self, body: dict[str, Any]) -> Webhook:
        return read_arr_webhook(self.name, body, WAKING)

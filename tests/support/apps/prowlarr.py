"""A stand-in for Prowlarr, version 2."""

from tests.support.apps.arr import Arr, Fields
from tests.support.apps.history import Row
from tests.support.apps.releases import SIZE
from tests.support.apps.wire import date_text


class Prowlarr(Arr):
    """Indexers. Its history has searches, too, and no downloads that end."""

    app_name = "Prowlarr"
    version = "2.0.5.5160"
    api = "/api/v1"
    includes = ("includeIndexer",)
    boxes = (
        "onGrab",
        "includeManualGrabs",
        "onHealthIssue",
        "includeHealthWarnings",
        "onHealthRestored",
        "onApplicationUpdate",
    )

    async def grab(self, title: str, *, manual: bool = False) -> Row:
        """Grab a release, for another application or by hand."""
        source = "Prowlarr" if manual else "Sonarr"
        data = {"source": source, "host": "127.0.0.1", "grabTitle": title, "grabMethod": "Proxy"}
        row = self._row("releaseGrabbed", data)
        release = {
            "releaseTitle": title,
            "indexer": "The Indexer",
            "size": SIZE,
            "categories": ["TV/HD"],
            "genres": [],
            "indexerFlags": [],
            "publishDate": date_text(self.clock.now()),
        }
        fields: Fields = {
            "release": release,
            "trigger": "manual" if manual else "api",
            "source": source,
            "host": "127.0.0.1",
        }
        await self.notify("Grab", "includeManualGrabs" if manual else "onGrab", fields)
        return row

    def search(self, query: str) -> Row:
        """Search an indexer. There is no webhook for it."""
        data = {"query": query, "queryType": "search", "source": "Sonarr", "elapsedTime": "120"}
        return self._row("indexerQuery", data)

    def _row(self, event_type: str, data: Fields) -> Row:
        return self.record(event_type, indexerId=1, successful=True, data=data)

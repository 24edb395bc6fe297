"""What Sonarr, Radarr, Lidarr and Prowlarr have in common."""

import datetime
from typing import Any

from aiohttp import web

from tests.support.apps.connections import Connections
from tests.support.apps.history import History, Row
from tests.support.apps.server import AppServer
from tests.support.apps.wire import date_text, parsed_date, without_nulls

Fields = dict[str, Any]

WIKI = "https://wiki.servarr.com/system"
QUALITY = {
    "quality": {"id": 3, "name": "WEBDL-1080p", "source": "web", "resolution": 1080},
    "revision": {"version": 1, "real": 0, "isRepack": False},
}
LANGUAGES = [{"id": 1, "name": "English"}]


class Arr(AppServer):
    """One application with a history, webhooks and health checks."""

    api: str
    includes: tuple[str, ...]
    """Parameters of the history that add the objects of a row, such as ``includeSeries``."""
    boxes: tuple[str, ...]
    health_has_url = True
    """Whether Health and ApplicationUpdate carry ``applicationUrl``."""

    def __init__(self, *, instance_name: str | None = None) -> None:
        super().__init__(instance_name=instance_name)
        self.history = History()
        self.connections = Connections(self.clock, self.boxes, self.test_payload)
        self.application_url = ""
        self._health: dict[str, Fields] = {}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(f"{self.api}/system/status", self._status),
            web.get(f"{self.api}/health", self._health_checks),
            web.get(f"{self.api}/history/since", self._history_since),
            web.get(f"{self.api}/history", self._history_page),
            *self.connections.routes(self.api),
            *self.library_routes(),
        ]

    def library_routes(self) -> list[web.RouteDef]:
        """Return the routes of the series, movies or artists."""
        return []

    def objects_of(self, row: Row) -> Fields:  # noqa: ARG002 - an application without objects
        """Return the objects that ``includes`` adds to a row."""
        return {}

    def test_fields(self) -> Fields:
        """Return the fields of a Test next to the common ones."""
        return {}

    def test_payload(self) -> Fields:
        return {"eventType": "Test", **self._common(), **self.test_fields()}

    def record(
        self,
        event_type: str,
        *,
        owner: int | None = None,
        date: datetime.datetime | None = None,
        **fields: Any,
    ) -> Row:
        """Add a row to the history. Its data has only strings."""
        moment = date or self.clock.now()
        data = {key: str(value) for key, value in fields.pop("data", {}).items()}
        return self.history.add(moment, owner, {"eventType": event_type, "data": data, **fields})

    async def notify(
        self, event_type: str, box: str, fields: Fields, *, has_url: bool = True
    ) -> None:
        """Send a webhook to the connections whose box is ticked."""
        payload = {"eventType": event_type, **self._common(has_url=has_url), **fields}
        await self.connections.send(payload, box, self.started_at)

    async def degrade(self, check: str, message: str, level: str = "warning") -> None:
        """A health check fails."""
        problem = {"level": level, "message": message, "type": check, "wikiUrl": f"{WIKI}#{check}"}
        self._health[check] = problem
        await self.notify("Health", "onHealthIssue", problem, has_url=self.health_has_url)

    async def recover(self, check: str) -> None:
        """A health check succeeds again. The webhook has the old message and level."""
        problem = self._health.pop(check)
        await self.notify("HealthRestored", "onHealthRestored", problem, has_url=False)

    async def update(self, version: str) -> None:
        """The application is updated: it restarts and reports both versions."""
        previous, self.version = self.version, version
        message = f"{self.app_name} updated from {previous} to {version}"
        fields = {"message": message, "previousVersion": previous, "newVersion": version}
        await self.notify(
            "ApplicationUpdate", "onApplicationUpdate", fields, has_url=self.health_has_url
        )

    def _common(self, *, has_url: bool = True) -> Fields:
        url = self.application_url if has_url else None
        return {"instanceName": self.instance_name, "applicationUrl": url}

    async def _status(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "appName": self.app_name,
                "instanceName": self.instance_name,
                "version": self.version,
                "startTime": date_text(self.started_at),
                "urlBase": "",
                "isProduction": True,
            }
        )

    async def _health_checks(self, _: web.Request) -> web.Response:
        checks = [
            {
                "source": check["type"],
                "type": check["level"],
                "message": check["message"],
                "wikiUrl": check["wikiUrl"],
            }
            for check in self._health.values()
        ]
        return web.json_response(checks)

    async def _history_since(self, request: web.Request) -> web.Response:
        date = parsed_date(request.query["date"])
        rows = self.history.since(date, request.query.get("eventType"))
        return web.json_response([self._shown(row, request) for row in rows])

    async def _history_page(self, request: web.Request) -> web.Response:
        query = request.query
        number, size = int(query.get("page", 1)), int(query.get("pageSize", 10))
        direction = query.get("sortDirection", "descending")
        rows = self.history.page(number, size, ascending=direction == "ascending")
        return web.json_response(
            {
                "page": number,
                "pageSize": size,
                "sortKey": query.get("sortKey", "date"),
                "sortDirection": direction,
                "totalRecords": len(self.history),
                "records": [self._shown(row, request) for row in rows],
            }
        )

    def _shown(self, row: Row, request: web.Request) -> Row:
        wanted = {name for name in self.includes if request.query.get(name, "").lower() == "true"}
        objects = {
            name: value
            for name, value in self.objects_of(row).items()
            if f"include{name.capitalize()}" in wanted
        }
        shown = {key: value for key, value in row.items() if key != "owner"}
        result: Row = without_nulls({**shown, "date": date_text(row["date"]), **objects})
        return result

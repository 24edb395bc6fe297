"""The connections of an application: the API that registers webhooks, and their delivery."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
from aiohttp import web

from tests.support.apps.back_off import BackOff
from tests.support.apps.clock import Clock
from tests.support.apps.wire import indented

METHODS = {1: "POST", 2: "PUT"}
TIMEOUT = aiohttp.ClientTimeout(total=100)

Drop = Callable[[int], bool]
"""Whether the network loses the webhook with this number."""


@dataclasses.dataclass
class Connection:
    """One webhook: its resource in the API, and its back-off."""

    resource: dict[str, Any]
    back_off: BackOff = dataclasses.field(default_factory=BackOff)

    def field(self, name: str) -> Any:
        fields = self.resource.get("fields", [])
        return next((field.get("value") for field in fields if field["name"] == name), None)


class Connections:
    """All webhooks of an application. ``boxes`` are the events that a connection can select."""

    def __init__(
        self, clock: Clock, boxes: tuple[str, ...], test_payload: Callable[[], Any]
    ) -> None:
        self.drop: Drop = lambda _: False
        self.attempts: list[tuple[str, int]] = []
        """Event type and status of each attempt; status 0 if it was lost or got no answer."""
        self.dropped: list[str] = []
        """Event types that were not sent because the connection was disabled."""
        self._clock = clock
        self._boxes = boxes
        self._test_payload = test_payload
        self._by_id: dict[int, Connection] = {}
        self._next_id = 1
        self._sent = 0

    def all(self) -> list[Connection]:
        return list(self._by_id.values())

    def add(self, url: str, **fields: Any) -> Connection:
        """Register a webhook with every box ticked, without testing it first."""
        values = {"url": url, "method": 1, **fields}
        resource = {
            **self._schema(),
            "name": "test",
            **dict.fromkeys(self._boxes, True),
            "fields": [{"name": name, "value": value} for name, value in values.items()],
        }
        return self._store(resource)

    async def send(self, payload: Mapping[str, Any], box: str, started_at: Any) -> None:
        """Send a webhook to each enabled connection that has the box ticked, once."""
        for connection in self.all():
            if not connection.resource.get(box):
                continue
            if connection.back_off.is_disabled(self._clock.now()):
                self.dropped.append(payload["eventType"])
            elif await self._attempt(connection, payload):
                connection.back_off.record_success()
            else:
                connection.back_off.record_failure(self._clock.now(), started_at)

    async def _attempt(self, connection: Connection, payload: Mapping[str, Any]) -> bool:
        self._sent += 1
        status = 0 if self.drop(self._sent) else await _post(connection, payload)
        self.attempts.append((payload["eventType"], status))
        return 200 <= status < 300

    def routes(self, prefix: str) -> list[web.RouteDef]:
        path = f"{prefix}/notification"
        return [
            web.get(path, self._list),
            web.post(path, self._create),
            web.get(f"{path}/schema", self._schemas),
            web.post(f"{path}/test", self._test),
            web.put(f"{path}/{{id}}", self._update),
            web.delete(f"{path}/{{id}}", self._delete),
        ]

    def _schema(self) -> dict[str, Any]:
        supports = [box for box in self._boxes if not box.startswith("include")]
        return {
            "implementation": "Webhook",
            "implementationName": "Webhook",
            "configContract": "WebhookSettings",
            "infoLink": "https://wiki.servarr.com/",
            "fields": [
                {"order": 0, "name": "url", "type": "url"},
                {"order": 1, "name": "method", "type": "select", "value": 1},
                {"order": 2, "name": "username", "type": "textbox"},
                {"order": 3, "name": "password", "type": "password"},
                {"order": 4, "name": "headers", "type": "keyValueList", "value": []},
            ],
            "tags": [],
            **dict.fromkeys(self._boxes, False),
            **{f"supports{box[0].upper()}{box[1:]}": True for box in supports},
        }

    def _store(self, resource: dict[str, Any], number: int | None = None) -> Connection:
        if number is None:
            number, self._next_id = self._next_id, self._next_id + 1
        connection = Connection({**resource, "id": number})
        self._by_id[number] = connection
        return connection

    async def _list(self, _: web.Request) -> web.Response:
        return web.json_response([_shown(connection) for connection in self.all()])

    async def _schemas(self, _: web.Request) -> web.Response:
        other = {"implementation": "Email", "fields": [], "configContract": "EmailSettings"}
        return web.json_response([other, self._schema()])

    async def _create(self, request: web.Request) -> web.Response:
        resource = await request.json()
        if resource["name"] in {connection.resource["name"] for connection in self.all()}:
            return _invalid("Name", "Should be unique")
        if problem := await self._problem(resource):
            return problem
        return web.json_response(_shown(self._store(resource)), status=201)

    async def _update(self, request: web.Request) -> web.Response:
        number = int(request.match_info["id"])
        if number not in self._by_id:
            return web.json_response({"message": "NotFound"}, status=404)
        resource = await request.json()
        _keep_password(resource, self._by_id[number])
        if problem := await self._problem(resource):
            return problem
        return web.json_response(_shown(self._store(resource, number)), status=202)

    async def _delete(self, request: web.Request) -> web.Response:
        self._by_id.pop(int(request.match_info["id"]), None)
        return web.json_response({})

    async def _test(self, request: web.Request) -> web.Response:
        return await self._problem(await request.json()) or web.json_response({})

    async def _problem(self, resource: dict[str, Any]) -> web.Response | None:
        """Send the test webhook. A connection that does not answer it cannot be saved."""
        connection = Connection(resource)
        if not connection.field("url"):
            return _invalid("Url", "Invalid Url")
        status = await _post(connection, self._test_payload())
        if 200 <= status < 300:
            return None
        return _invalid("Url", f"Unable to send test message. HTTP status {status}")


PASSWORD_MASK = "********"


def _shown(connection: Connection) -> dict[str, Any]:
    """Return the resource as the API shows it, with the password masked."""
    fields = [
        {**field, "value": PASSWORD_MASK}
        if field["name"] == "password" and field.get("value")
        else field
        for field in connection.resource["fields"]
    ]
    return {**connection.resource, "fields": fields}


def _keep_password(resource: dict[str, Any], stored: Connection) -> None:
    for field in resource.get("fields", []):
        if field["name"] == "password" and field.get("value") == PASSWORD_MASK:
            field["value"] = stored.field("password")


def _invalid(name: str, message: str) -> web.Response:
    failure = {"isWarning": False, "propertyName": name, "errorMessage": message}
    return web.json_response([{**failure, "severity": "error"}], status=400)


async def _post(connection: Connection, payload: Any) -> int:
    """Send one webhook, and return the status of the answer; 0 without one."""
    headers = {"Content-Type": "application/json"}
    headers |= {pair["key"]: pair["value"] for pair in connection.field("headers") or []}
    username, password = connection.field("username"), connection.field("password")
    if username or password:
        headers["Authorization"] = aiohttp.encode_basic_auth(username or "", password or "")
    method = METHODS[int(connection.field("method") or 1)]
    try:
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT) as session,
            session.request(
                method, connection.field("url"), data=indented(payload), headers=headers
            ) as response,
        ):
            return response.status
    except (aiohttp.ClientError, TimeoutError):
        return 0

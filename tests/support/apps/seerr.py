"""A stand-in for Seerr, version 3 (Overseerr and Jellyseerr before it)."""

import json
import re
from typing import Any

import aiohttp
from aiohttp import web

from tests.support.apps.server import AppServer
from tests.support.apps.wire import date_text

Fields = dict[str, Any]

TYPES = {
    "MEDIA_PENDING": 2,
    "MEDIA_APPROVED": 4,
    "MEDIA_AVAILABLE": 8,
    "MEDIA_FAILED": 16,
    "TEST_NOTIFICATION": 32,
    "MEDIA_DECLINED": 64,
    "MEDIA_AUTO_APPROVED": 128,
    "ISSUE_CREATED": 256,
    "ISSUE_COMMENT": 512,
    "ISSUE_RESOLVED": 1024,
    "ISSUE_REOPENED": 2048,
    "MEDIA_AUTO_REQUESTED": 4096,
}
"""Kinds of notification, as bits of the field ``types``."""

TEMPLATE = {
    "notification_type": "{{notification_type}}",
    "event": "{{event}}",
    "subject": "{{subject}}",
    "message": "{{message}}",
    "image": "{{image}}",
    "{{media}}": {
        "media_type": "{{media_type}}",
        "tmdbId": "{{media_tmdbid}}",
        "tvdbId": "{{media_tvdbid}}",
        "status": "{{media_status}}",
        "status4k": "{{media_status4k}}",
    },
    "{{request}}": {
        "request_id": "{{request_id}}",
        "requestedBy_email": "{{requestedBy_email}}",
        "requestedBy_username": "{{requestedBy_username}}",
    },
    "{{issue}}": {
        "issue_id": "{{issue_id}}",
        "issue_type": "{{issue_type}}",
        "issue_status": "{{issue_status}}",
        "reportedBy_username": "{{reportedBy_username}}",
    },
    "{{comment}}": {
        "comment_message": "{{comment_message}}",
        "commentedBy_username": "{{commentedBy_username}}",
    },
    "{{extra}}": [],
}
"""The template of a new installation."""

UNKNOWN = re.compile(r"\{\{\w+\}\}")
SECTIONS = ("media", "request", "issue", "comment")


class Seerr(AppServer):
    """Requests and issues. It has one webhook, whose body a template describes."""

    app_name = "Seerr"
    version = "3.0.1"

    def __init__(self, *, instance_name: str | None = None) -> None:
        super().__init__(instance_name=instance_name)
        options = {"webhookUrl": "", "jsonPayload": json.dumps(TEMPLATE), "authHeader": ""}
        self.webhook: Fields = {"enabled": False, "types": 0, "options": options}
        self.attempts: list[tuple[str, int]] = []
        self.stored_requests: dict[int, Fields] = {}

    def routes(self) -> list[web.RouteDef]:
        path = "/api/v1/settings/notifications/webhook"
        return [
            web.get("/api/v1/status", self._status),
            web.get("/api/v1/request", self._list),
            web.get(path, self._shown),
            web.post(path, self._save),
            web.post(f"{path}/test", self._test),
        ]

    def add_webhook(self, url: str, *, authorization: str = "") -> None:
        """Register a webhook for all kinds of notification."""
        self.webhook = {
            "enabled": True,
            "types": sum(TYPES.values()),
            "options": {
                **self.webhook["options"],
                "webhookUrl": url,
                "authHeader": authorization,
            },
        }

    async def request(self, title: str, **media: Any) -> Fields:
        """Request a movie or a series. The request waits for approval."""
        number = len(self.stored_requests) + 1
        values = {
            "subject": title,
            "media_type": "movie",
            "media_tmdbid": "438631",
            "media_tvdbid": "",
            "media_status": "PENDING",
            "media_status4k": "UNKNOWN",
            "request_id": str(number),
            "requestedBy_username": "alice",
            "requestedBy_email": "alice@example.org",
            "createdAt": date_text(self.clock.now()),
            **media,
        }
        self.stored_requests[number] = values
        await self.tell("MEDIA_PENDING", values, message="A new request is waiting")
        return values

    async def tell(self, kind: str, values: Fields, *, message: str = "") -> None:
        """Send a notification, once, if its kind is selected."""
        options = self.webhook["options"]
        if not (self.webhook["enabled"] and self.webhook["types"] & TYPES[kind]):
            return
        status = await self._post(options, self._payload(options, kind, values, message))
        self.attempts.append((kind, status))

    def _payload(self, options: Fields, kind: str, values: Fields, message: str) -> Fields:
        known = {
            "notification_type": kind,
            "event": kind.replace("_", " ").title(),
            "message": message,
            "image": "",
            **values,
        }
        filled: Fields = _fill(json.loads(options["jsonPayload"]), known)
        return filled

    async def _post(self, options: Fields, payload: Fields) -> int:
        headers = {"Authorization": options["authHeader"]} if options.get("authHeader") else {}
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.post(options["webhookUrl"], json=payload, headers=headers) as response,
            ):
                return response.status
        except (aiohttp.ClientError, TimeoutError):
            return 0

    async def _status(self, _: web.Request) -> web.Response:
        return web.json_response({"version": self.version, "commitTag": "local"})

    async def _list(self, request: web.Request) -> web.Response:
        take, skip = int(request.query.get("take", 10)), int(request.query.get("skip", 0))
        newest = list(reversed(self.stored_requests.values()))
        page = {"pages": 1, "pageSize": take, "results": len(newest), "page": 1}
        return web.json_response({"pageInfo": page, "results": newest[skip : skip + take]})

    async def _shown(self, _: web.Request) -> web.Response:
        return web.json_response(self.webhook)

    async def _save(self, request: web.Request) -> web.Response:
        """Store the settings. The template arrives as a JSON string within a JSON string."""
        self.webhook = _with_template(await request.json())
        return web.json_response(self.webhook)

    async def _test(self, request: web.Request) -> web.Response:
        options = _with_template(await request.json())["options"]
        payload = self._payload(
            options, "TEST_NOTIFICATION", {"subject": "Test Notification"}, "Check check, 1, 2, 3."
        )
        status = await self._post(options, payload)
        if 200 <= status < 300:
            return web.Response(status=204)
        return web.json_response({"message": "Failed to send webhook notification."}, status=500)


def _with_template(settings: Fields) -> Fields:
    options = settings["options"]
    return {**settings, "options": {**options, "jsonPayload": json.loads(options["jsonPayload"])}}


def _fill(template: Any, values: Fields) -> Any:
    """Replace ``{{name}}`` in texts. A section whose values are unknown becomes null."""
    if isinstance(template, dict):
        return dict(_member(key, value, values) for key, value in template.items())
    if isinstance(template, str):
        for name, value in values.items():
            template = template.replace(f"{{{{{name}}}}}", str(value))
        return UNKNOWN.sub("", template)
    return template


def _member(key: str, value: Any, values: Fields) -> tuple[str, Any]:
    name = key.removeprefix("{{").removesuffix("}}")
    if name in SECTIONS and name != key and not any(known in values for known in _names(value)):
        return name, None
    return name, _fill(value, values)


def _names(section: Fields) -> list[str]:
    return [text.removeprefix("{{").removesuffix("}}") for text in section.values()]

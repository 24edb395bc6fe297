"""Register the webhook of mediabus in an application, by the application's API."""

import json
from typing import Any, Final, Protocol, TypeVar

import msgspec

from mediabus.schemas.decoding import NOT_JSON
from mediabus.service.apps.settings import AppSettings
from mediabus.service.clients.http import Answer
from mediabus.service.clients.port import ClientUnavailable

T = TypeVar("T")

NAME: Final = "mediabus"
"""The name of the webhook in the application."""

POST: Final = 1
"""The method of the webhook, as the applications number it."""

NOT_TICKED: Final = {"onImportComplete"}
"""Boxes that would only report again what another box reports."""

SEERR_PATH: Final = "settings/notifications/webhook"
SEERR_TYPES: Final = 2 | 4 | 8 | 16 | 64 | 128 | 256 | 512 | 1024 | 2048 | 4096
"""All kinds of notification but the test, one bit each."""

SEERR_TEMPLATE: Final = {
    "notification_type": "{{notification_type}}",
    "event": "{{event}}",
    "subject": "{{subject}}",
    "message": "{{message}}",
    "{{media}}": {
        "media_type": "{{media_type}}",
        "tmdbId": "{{media_tmdbid}}",
        "tvdbId": "{{media_tvdbid}}",
    },
    "{{request}}": {
        "request_id": "{{request_id}}",
        "requestedBy_username": "{{requestedBy_username}}",
    },
    "{{issue}}": {
        "issue_id": "{{issue_id}}",
        "reportedBy_username": "{{reportedBy_username}}",
    },
    "{{comment}}": {
        "comment_message": "{{comment_message}}",
        "commentedBy_username": "{{commentedBy_username}}",
    },
}


class ConnectFailed(Exception):
    """The application did not accept the webhook. The message has the reason."""


class Api(Protocol):
    """The calls to an application that registering needs."""

    async def get(self, path: str, kind: type[T]) -> T: ...

    async def send(self, method: str, path: str, body: object) -> Answer: ...


async def connect_app(app: AppSettings, api: Api, base: str, *, replace: bool = False) -> str:
    """Register the webhook, or correct it, and let the application test it.

    Args:
        base: The URL of this port as the application reaches it.
        replace: Whether to replace the webhook of another program. Seerr has only one.

    Returns what was done: ``created`` or ``updated``.

    Raises:
        ConnectFailed: the application did not accept the webhook, or could not reach it.
        ClientUnavailable: the application did not answer.
    """
    url = webhook_url(app, base)
    if app.kind == "seerr":
        return await _connect_seerr(app, api, url, replace=replace)
    return await _connect_arr(app, api, url)


def webhook_url(app: AppSettings, base: str) -> str:
    """Return the URL of the webhook, with its token."""
    return f"{base.rstrip('/')}/hooks/{app.name}/{app.token}"


async def _connect_arr(app: AppSettings, api: Api, url: str) -> str:
    known = await api.get("notification", list[dict[str, Any]])
    ours = [resource["id"] for resource in known if _is_ours(resource, app.name)]
    schemas = await api.get("notification/schema", list[dict[str, Any]])
    resource = _ticked(_schema(app, schemas), url)
    if ours:
        answer = await api.send("PUT", f"notification/{ours[0]}", {**resource, "id": ours[0]})
    else:
        answer = await api.send("POST", "notification", resource)
    _check(app, answer)
    _check(app, await api.send("POST", "notification/test", _saved(app, answer)))
    for duplicate in ours[1:]:
        await api.send("DELETE", f"notification/{duplicate}", None)
    return "updated" if ours else "created"


def _is_ours(resource: dict[str, Any], name: str) -> bool:
    """Return whether a webhook is that of mediabus, perhaps under the app's former name."""
    if resource.get("implementation") != "Webhook" or not isinstance(resource.get("id"), int):
        return False
    url = str(_field(resource, "url"))
    return f"/hooks/{name}/" in url or (resource.get("name") == NAME and "/hooks/" in url)


def _field(resource: dict[str, Any], name: str) -> object:
    return next((it.get("value") for it in _fields(resource) if it.get("name") == name), None)


def _fields(resource: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the fields of a webhook that can be read."""
    fields = resource.get("fields")
    return [it for it in fields if isinstance(it, dict)] if isinstance(fields, list) else []


def _saved(app: AppSettings, answer: Answer) -> dict[str, Any]:
    """Return the webhook as the application has saved it."""
    try:
        return msgspec.json.decode(answer.body, type=dict[str, Any])
    except NOT_JSON as error:
        raise ConnectFailed(f"{app.program} saved the webhook, but its answer: {error}") from error


def _schema(app: AppSettings, schemas: list[dict[str, Any]]) -> dict[str, Any]:
    for schema in schemas:
        if schema.get("implementation") == "Webhook":
            return schema
    raise ConnectFailed(f"{app.program} offers no webhook: is it a recent version?")


def _ticked(schema: dict[str, Any], url: str) -> dict[str, Any]:
    """Return a webhook with every box ticked that its application supports."""
    boxes = {
        box: True
        for box in schema
        if box
        and box not in NOT_TICKED
        and (box.startswith("include") or schema.get(f"supports{box[0].upper()}{box[1:]}"))
    }
    values = {"url": url, "method": POST}
    fields = [
        {**field, "value": values.get(str(field.get("name")), field.get("value"))}
        for field in _fields(schema)
    ]
    return {**schema, **boxes, "name": NAME, "fields": fields}


def _check(app: AppSettings, answer: Answer) -> None:
    if answer.status < 300:
        return
    try:
        problems = msgspec.json.decode(answer.body, type=list[dict[str, Any]])
        reasons = [str(problem.get("errorMessage"))[:200] for problem in problems[:5]]
    except NOT_JSON:
        reasons = [answer.text]
    raise ConnectFailed(
        f"{app.program} did not accept the webhook (HTTP {answer.status}): {'; '.join(reasons)}. "
        "Check that it can reach mediabus at this URL, and that mediabus is connected to NATS"
    )


async def _connect_seerr(app: AppSettings, api: Api, url: str, *, replace: bool) -> str:
    current = await api.get(SEERR_PATH, dict[str, Any])
    given = current.get("options")
    options = given if isinstance(given, dict) else {}
    there = str(options.get("webhookUrl") or "")
    is_ours = f"/hooks/{app.name}/" in there
    if there and current.get("enabled") and not is_ours and not replace:
        raise ConnectFailed(
            f"{app.program} has one webhook, and another program uses it. Use --replace to "
            "replace it"
        )
    template = json.dumps(json.dumps(SEERR_TEMPLATE))  # Seerr parses it twice
    body = {
        **current,
        "enabled": True,
        "types": SEERR_TYPES,
        "options": {**options, "webhookUrl": url, "jsonPayload": template, "authHeader": ""},
    }
    _check(app, await api.send("POST", SEERR_PATH, body))
    try:
        _check(app, await api.send("POST", f"{SEERR_PATH}/test", body))
    except ClientUnavailable as error:  # Seerr answers 500 if the test failed
        raise ConnectFailed(
            f"{app.program} saved the webhook, but its test failed: {error}"
        ) from error
    return "updated" if is_ours else "created"

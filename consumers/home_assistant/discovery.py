"""The devices and entities that Home Assistant discovers.

The format is the device discovery of Home Assistant 2024.11 and later: one retained message for
each device, with all of its entities.
"""

import importlib.metadata
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from mediabus.consumers.home_assistant.topics import Topics, safe_id
from mediabus.schemas.events import EVENT_TYPES
from mediabus.schemas.operations.apps import AppState
from mediabus.schemas.plain_text import plain
from mediabus.schemas.status import ClientStatus

OTHER: Final = "other"
"""The ``event_type`` of events whose type mediabus does not know."""

DOWNLOADS: Final = {"unit_of_measurement": "downloads", "state_class": "measurement"}
RATE: Final = {
    "device_class": "data_rate",
    "unit_of_measurement": "MB/s",
    "state_class": "measurement",
    "suggested_display_precision": 1,
}
MAX_NAME: Final = 64
"""Characters of a client's name in the name of its device."""

Component = dict[str, Any]


def discovery(
    topics: Topics, clients: Iterable[ClientStatus], apps: Iterable[AppState] = ()
) -> dict[str, bytes]:
    """Return the discovery message of each device, by topic."""
    messages = {topics.discovery(): _message(topics, _library(topics), _library_entities(topics))}
    for status in clients:
        client_id = safe_id(status.client)
        device_id = f"{topics.node}_{client_id}"
        device = _device(topics, device_id, status.client, status.kind, status.version)
        entities = _client_entities(topics, client_id)
        messages[topics.discovery(client_id)] = _message(topics, device, entities)
    for app in apps:
        app_id = safe_id(app.name)
        device = _device(topics, topics.app_device(app_id), app.name, app.kind, app.version)
        entities = {"connected": _app_connected(topics, app_id)}
        messages[topics.app_discovery(app_id)] = _message(topics, device, entities)
    return messages


def _message(topics: Topics, device: Component, components: Mapping[str, Component]) -> bytes:
    return msgspec.json.encode(
        {
            "device": device,
            "origin": {"name": "mediabus", "sw_version": importlib.metadata.version("mediabus")},
            "availability_topic": topics.availability,
            "components": components,
        }
    )


def _library(topics: Topics) -> Component:
    return {
        "identifiers": [topics.node],
        "name": topics.node,
        "manufacturer": "mediabus",
        "model": "media library",
        "sw_version": importlib.metadata.version("mediabus"),
    }


def _device(topics: Topics, device_id: str, name: str, kind: str, version: str | None) -> Component:
    shown_version = plain(version or "")[:MAX_NAME]
    return {
        "identifiers": [device_id],
        "name": f"{topics.node} {plain(name)[:MAX_NAME]}",
        "manufacturer": "mediabus",
        "model": plain(kind)[:MAX_NAME],
        **({"sw_version": shown_version} if shown_version else {}),
        "via_device": topics.node,
    }


def _library_entities(topics: Topics) -> dict[str, Component]:
    def entity(key: str, platform: str, name: str, icon: str, **more: Any) -> Component:  # noqa: ANN401 - JSON
        return {
            "platform": platform,
            "qos": 1,
            "unique_id": f"{topics.node}-{key}",
            "name": name,
            "icon": f"mdi:{icon}",
            "state_topic": topics.of(key),
            **more,
        }

    return {
        "active": entity("active", "sensor", "Active", "download", **DOWNLOADS),
        "paused": entity("paused", "sensor", "Paused", "pause", **DOWNLOADS),
        "stalled": entity("stalled", "sensor", "Stalled", "timer-sand", **DOWNLOADS),
        "failed_today": entity(
            "failed_today", "sensor", "Failed today", "alert-circle-outline", **DOWNLOADS
        ),
        "speed": entity("speed", "sensor", "Speed", "speedometer", **RATE),
        "last_event": entity(
            "last_event",
            "sensor",
            "Last event",
            "message-text-clock-outline",
            json_attributes_topic=topics.of("last_event/attributes"),
        ),
        "attention": entity(
            "attention",
            "binary_sensor",
            "Needs attention",
            "bell-alert-outline",
            device_class="problem",
            json_attributes_topic=topics.of("attention/attributes"),
        ),
        "event": entity(
            "event", "event", "Event", "bell-outline", event_types=[*sorted(EVENT_TYPES), OTHER]
        ),
    }


def _client_entities(topics: Topics, client_id: str) -> dict[str, Component]:
    def entity(key: str, platform: str, name: str, **more: Any) -> Component:  # noqa: ANN401 - JSON
        unique_id = f"{topics.node}-client-{client_id}-{key}"
        return {"platform": platform, "qos": 1, "unique_id": unique_id, "name": name, **more}

    def shown(key: str) -> Component:
        return {"state_topic": topics.of_client(client_id, key)}

    def button(key: str, name: str) -> Component:
        return entity(
            f"{key}_all",
            "button",
            name,
            icon=f"mdi:{'pause' if key == 'pause' else 'play'}",
            command_topic=topics.of_client(client_id, "set"),
            payload_press=key,
        )

    return {
        "connected": entity(
            "connected",
            "binary_sensor",
            "Connected",
            device_class="connectivity",
            entity_category="diagnostic",
            json_attributes_topic=topics.of_client(client_id, "connected/attributes"),
            **shown("connected"),
        ),
        "active": entity("active", "sensor", "Active", **DOWNLOADS, **shown("active")),
        "paused": entity("paused", "sensor", "Paused", **DOWNLOADS, **shown("paused")),
        "speed": entity("speed", "sensor", "Speed", **RATE, **shown("speed")),
        "pause_all": button("pause", "Pause all"),
        "resume_all": button("resume", "Resume all"),
    }


def _app_connected(topics: Topics, app_id: str) -> Component:
    return {
        "platform": "binary_sensor",
        "qos": 1,
        "unique_id": f"{topics.node}-app-{app_id}-connected",
        "name": "Connected",
        "device_class": "connectivity",
        "entity_category": "diagnostic",
        "state_topic": topics.of_app(app_id, "connected"),
        "json_attributes_topic": topics.of_app(app_id, "connected/attributes"),
    }


APP_TOPICS: Final = ("connected", "connected/attributes")
"""The retained topics of one application."""

CLIENT_TOPICS: Final = ("connected", "connected/attributes", "active", "paused", "speed")
"""The retained topics of one client."""

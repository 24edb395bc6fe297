"""The rules by which Home Assistant accepts a discovery message, taken from its MQTT integration.

The rules are those of the device discovery: a message that breaks one is dropped there with a line
in the log, so that a test has to find it here.
"""

import json
import re
from typing import Any, Final

DISCOVERY_TOPIC: Final = re.compile(
    r"homeassistant/(?P<component>\w+)/(?:(?P<node>[a-zA-Z0-9_-]+)/)?(?P<object>[a-zA-Z0-9_-]+)/config"
)
ENTITY: Final = frozenset(
    {
        "platform",
        "unique_id",
        "name",
        "icon",
        "qos",
        "device_class",
        "entity_category",
        "enabled_by_default",
        "json_attributes_topic",
        "default_entity_id",
    }
)
STATE: Final = {"state_topic", "value_template"}
PLATFORMS: Final[dict[str, tuple[set[str], set[str]]]] = {
    "sensor": (
        {"state_topic"},
        {
            *STATE,
            "unit_of_measurement",
            "state_class",
            "suggested_display_precision",
            "expire_after",
            "force_update",
            "options",
        },
    ),
    "binary_sensor": ({"state_topic"}, {*STATE, "payload_on", "payload_off", "off_delay"}),
    "event": ({"state_topic", "event_types"}, {*STATE, "event_types"}),
    "button": ({"command_topic"}, {"command_topic", "payload_press", "retain"}),
}
"""The required keys of a platform, and those that it takes besides those of every entity."""

DEVICE_CLASSES: Final = {
    "sensor": {"data_rate", "data_size", "timestamp", "duration"},
    "binary_sensor": {"connectivity", "problem", "running", "update"},
    "event": {"button", "doorbell", "motion"},
    "button": {"identify", "restart", "update"},
}
RATE_UNITS: Final = {
    *("bit/s", "kbit/s", "Mbit/s", "Gbit/s", "B/s", "kB/s", "MB/s", "GB/s"),
    *("KiB/s", "MiB/s", "GiB/s"),
}
DEVICE: Final = {
    *("identifiers", "connections", "name", "manufacturer", "model", "model_id", "sw_version"),
    *("hw_version", "serial_number", "suggested_area", "via_device", "configuration_url"),
}
MESSAGE: Final = {
    *("device", "origin", "components", "qos", "encoding", "state_topic", "command_topic"),
    *("availability", "availability_mode", "availability_topic", "availability_template"),
    *("payload_available", "payload_not_available"),
}
MAX_STATE: Final = 255


def check_discovery(topic: str, payload: bytes) -> dict[str, Any]:
    """Fail for a message that Home Assistant would not accept whole, and return it decoded."""
    found = DISCOVERY_TOPIC.fullmatch(topic)
    assert found, f"{topic} is no discovery topic"
    assert found["component"] == "device"
    assert found["node"] is None
    message = json.loads(payload)
    assert {"device", "origin", "components"} <= message.keys() <= MESSAGE
    check_text(message["origin"]["name"])
    assert message["origin"].keys() <= {"name", "sw_version", "support_url"}
    _check_device(message["device"])
    check_topic(message["availability_topic"])
    unique_ids = [component["unique_id"] for component in message["components"].values()]
    assert len(set(unique_ids)) == len(unique_ids) > 0
    for key, component in message["components"].items():
        assert isinstance(key, str)
        _check_component(component)
    return dict(message)


def _check_device(device: dict[str, Any]) -> None:
    assert device.keys() <= DEVICE
    assert device.get("identifiers") or device.get("connections"), "a device needs an identifier"
    for identifier in device["identifiers"]:
        check_text(identifier)
    for key in ("name", "manufacturer", "model", "sw_version", "via_device"):
        if key in device:
            check_text(device[key])


def _check_component(component: dict[str, Any]) -> None:
    platform = component["platform"]
    required, allowed = PLATFORMS[platform]
    assert required <= component.keys() <= ENTITY | allowed, component
    check_text(component["unique_id"])
    check_text(component["name"])
    assert component.get("qos", 0) in {0, 1, 2}
    assert re.fullmatch(r"mdi:[a-z0-9-]+", component.get("icon", "mdi:bell"))
    for key in ("state_topic", "command_topic", "json_attributes_topic"):
        if key in component:
            check_topic(component[key])
    _check_class(platform, component)


def _check_class(platform: str, component: dict[str, Any]) -> None:
    device_class, unit = component.get("device_class"), component.get("unit_of_measurement")
    if device_class is not None:
        assert device_class in DEVICE_CLASSES[platform]
    if device_class == "data_rate":
        assert unit in RATE_UNITS
    if "state_class" in component:
        assert component["state_class"] in {"measurement", "total", "total_increasing"}
        assert unit, "a sensor with a state class needs a unit, or has no statistics"
    if "entity_category" in component:
        categories = {"diagnostic", "config"} if platform == "button" else {"diagnostic"}
        assert component["entity_category"] in categories
    if platform == "event":
        assert all(isinstance(name, str) and name for name in component["event_types"])


def check_topic(topic: str) -> None:
    """Fail for a topic that one cannot publish to."""
    assert topic
    assert not set("+#\0") & set(topic), topic
    assert topic.isprintable()
    assert len(topic.encode()) < 65_536


def check_text(text: str) -> None:
    """Fail for a text that a page of Home Assistant cannot show in one line."""
    assert isinstance(text, str)
    assert text
    assert text.isprintable(), repr(text)
    assert len(text) <= MAX_STATE


def states_of(message: dict[str, Any]) -> dict[str, str]:
    """Return the state topic of each entity of a discovery message."""
    components = message["components"]
    return {
        key: entity["state_topic"] for key, entity in components.items() if "state_topic" in entity
    }

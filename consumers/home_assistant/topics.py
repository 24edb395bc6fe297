"""The MQTT topics, and ids that are safe in them for any name of a client."""

import hashlib
import re
from typing import Final, NamedTuple

SAFE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What Home Assistant allows in a discovery topic."""

KEPT: Final = 40
"""Characters of an unsafe name that its id keeps."""

INVALID: Final = re.compile(r"[+#\x00-\x1f\x7f-\x9f]")


def safe_id(name: str) -> str:
    """Return the name, or an id with a digest if a topic cannot hold the name."""
    if SAFE.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:12]
    return f"{re.sub(r'[^A-Za-z0-9_-]', '_', name)[:KEPT]}-{digest}"


def is_topic(text: str) -> bool:
    """Return whether other topics can begin with this one."""
    levels = text.split("/")
    return all(levels) and not INVALID.search(text) and text[0] != "$" and len(text) <= 200


class Topics(NamedTuple):
    """The topics of one installation. ``base`` and ``discovery_prefix`` are in the settings."""

    base: str
    discovery_prefix: str

    @property
    def node(self) -> str:
        """The id of this installation in Home Assistant."""
        return safe_id(self.base)

    @property
    def availability(self) -> str:
        """``online``, or ``offline`` by the last will."""
        return f"{self.base}/status"

    @property
    def birth(self) -> str:
        """Where Home Assistant publishes ``online`` when it starts."""
        return f"{self.discovery_prefix}/status"

    @property
    def event(self) -> str:
        return self.of("event")

    def of(self, key: str) -> str:
        """The topic of a state of the whole library."""
        return f"{self.base}/{key}"

    def of_client(self, client_id: str, key: str) -> str:
        """The topic of a state or the command of one client."""
        return f"{self.base}/client/{client_id}/{key}"

    def of_app(self, app_id: str, key: str) -> str:
        """The topic of a state of one application."""
        return f"{self.base}/app/{app_id}/{key}"

    def app_discovery(self, app_id: str) -> str:
        """The topic that describes the device of an application."""
        return f"{self.discovery_prefix}/device/{self.app_device(app_id)}/config"

    def app_device(self, app_id: str) -> str:
        """The id of the device of an application, which no client's device has."""
        return f"{self.node}-app_{app_id}"

    def discovery(self, client_id: str | None = None) -> str:
        """The topic that describes the device of a client, or that of mediabus itself."""
        device = f"{self.node}_{client_id}" if client_id else self.node
        return f"{self.discovery_prefix}/device/{device}/config"

    def client_in(self, topic: str, key: str) -> str | None:
        """Return the client id in a topic of ``of_client``; None for any other topic."""
        return _id_between(topic, f"{self.base}/client/", f"/{key}")

    def app_in(self, topic: str, key: str) -> str | None:
        """Return the application id in a topic of ``of_app``; None for any other topic."""
        return _id_between(topic, f"{self.base}/app/", f"/{key}")


def _id_between(topic: str, before: str, after: str) -> str | None:
    if not (topic.startswith(before) and topic.endswith(after)):
        return None
    found = topic[len(before) : -len(after)]
    return found if SAFE.fullmatch(found) else None

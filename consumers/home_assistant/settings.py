"""The table ``[mqtt]`` of the settings."""

import dataclasses
import importlib.util
import os
import ssl
from typing import Final
from urllib.parse import unquote, urlsplit

from mediabus.consumers.home_assistant.topics import Topics, is_topic
from mediabus.runtime.settings import MqttSettings, Settings, SettingsError
from mediabus.runtime.settings_errors import wrong
from mediabus.runtime.text_files import read_text

PORTS: Final = {"mqtt": 1883, "mqtts": 8883}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MqttConfig:
    """How to reach the broker, and what to publish there. Times in seconds."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    user: str | None
    password: str | None = dataclasses.field(repr=False)
    topics: Topics
    speed_interval: float
    stalled_after: float


def parsed(settings: Settings) -> MqttConfig | None:
    """Parse the settings of the broker; None without ``mqtt.url``.

    Raises:
        SettingsError: a setting cannot be used; the message names its key or its variable.
    """
    table = _Table(settings.mqtt)
    if settings.mqtt.url is None:
        return None
    if importlib.util.find_spec("aiomqtt") is None:
        raise table.fault("url", "install the extra for MQTT: pip install 'mediabus[mqtt]'")
    scheme, host, port, user, password = table.url(settings.mqtt.url)
    return MqttConfig(
        host=host,
        port=port,
        tls=table.tls(scheme),
        user=settings.mqtt.user or user,
        password=table.password() or password,
        topics=Topics(
            table.topic("topic", settings.mqtt.topic),
            table.topic("discovery_prefix", settings.mqtt.discovery_prefix),
        ),
        speed_interval=settings.mqtt.speed_interval,
        stalled_after=settings.monitor.stalled_after,
    )


class _Table:
    """The table, with errors that name the key or the variable that a value came from."""

    def __init__(self, settings: MqttSettings) -> None:
        self._settings = settings

    def fault(self, key: str, why: str) -> SettingsError:
        return wrong(f"mqtt.{key}", f"MEDIABUS_MQTT_{key}".upper(), why, os.environ)

    def url(self, text: str) -> tuple[str, str, int, str | None, str | None]:
        try:
            url = urlsplit(text)
            host, port = url.hostname, url.port
        except ValueError as error:
            raise self.fault("url", f"it is not a URL: {error}") from None
        if url.scheme not in PORTS or not host or url.path.strip("/") or url.query:
            raise self.fault("url", "it must be mqtt://HOST:PORT, or mqtts://HOST:PORT with TLS")
        user = unquote(url.username) if url.username else None
        password = unquote(url.password) if url.password else None
        return url.scheme, host, port or PORTS[url.scheme], user, password

    def tls(self, scheme: str) -> ssl.SSLContext | None:
        authority = self._settings.tls_ca
        if scheme != "mqtts":
            if authority:
                raise self.fault("tls_ca", "it has no effect without TLS: use mqtts:// in url")
            return None
        try:
            return ssl.create_default_context(cafile=authority)
        except OSError as error:  # ssl.SSLError is one
            raise self.fault("tls_ca", f"cannot use {authority}: {error}") from error

    def password(self) -> str | None:
        if self._settings.password or not self._settings.password_file:
            return self._settings.password
        try:
            return read_text(self._settings.password_file).rstrip("\r\n")
        except (OSError, ValueError) as error:
            raise self.fault("password_file", f"cannot read it: {error}") from error

    def topic(self, key: str, text: str) -> str:
        if not is_topic(text):
            raise self.fault(
                key, "a topic has levels such as home/mediabus, and no +, # or control characters"
            )
        return text

"""The settings that the service and the monitor need, parsed once."""

import msgspec
from msgspec.structs import replace

from mediabus.runtime.settings import Settings
from mediabus.runtime.settings_errors import Faults
from mediabus.runtime.url_policy import Allowed, allowed_hosts
from mediabus.service.apps import AnyAppSettings
from mediabus.service.apps.configured import app_settings
from mediabus.service.clients import AnyClientSettings
from mediabus.service.clients.sessions import client_settings


class Config(msgspec.Struct, frozen=True):
    """The download clients, the applications, and the private hosts that URLs may lead to.

    ``has_targets`` is whether the notifier has targets.
    """

    clients: tuple[AnyClientSettings, ...]
    allowed: Allowed
    apps: tuple[AnyAppSettings, ...] = ()
    has_targets: bool = False


def config_of(settings: Settings) -> Config:
    """Parse the settings. Raises SettingsError."""
    config = Config(clients=(), allowed=Allowed(), has_targets=bool(settings.notify))
    faults = Faults()
    with faults.collected():
        config = replace(config, clients=tuple(client_settings(settings)))
    with faults.collected():
        config = replace(config, allowed=allowed_hosts(settings.downloads.allowed_hosts))
    with faults.collected():
        config = replace(config, apps=app_settings(settings))
    faults.raise_first()
    return config

"""The applications of the settings, typed."""

import os
from collections.abc import Mapping
from typing import Final, get_args

from mediabus.runtime.settings import Settings
from mediabus.runtime.settings_tables import typed_rows
from mediabus.service.apps import AnyAppSettings

KINDS: Final[dict[str, type[AnyAppSettings]]] = {
    str(settings.__struct_config__.tag): settings for settings in get_args(AnyAppSettings)
}
"""The kinds of application, by their name in the settings."""


def app_settings(
    settings: Settings, environ: Mapping[str, str] | None = None
) -> tuple[AnyAppSettings, ...]:
    """Return the ``[[apps]]`` of the settings, typed.

    Raises:
        SettingsError: a table cannot be used. The message names the key, or its variable.
    """
    environ = os.environ if environ is None else environ
    return typed_rows(settings.apps, KINDS, "apps", environ)

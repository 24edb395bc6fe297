"""The applications of the settings, typed."""

import os
from collections.abc import Mapping
from typing import Any, Final, get_args

import msgspec

from mediabus.runtime.settings import Settings, SettingsError
from mediabus.runtime.settings_errors import in_words, wrong
from mediabus.runtime.settings_variables import variable_prefix
from mediabus.runtime.validation_errors import place_and_rule
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
    apps = tuple(
        _typed(f"apps[{number}]", table, environ) for number, table in enumerate(settings.apps)
    )
    prefixes = [variable_prefix(app.name, "apps") for app in apps]
    for app, prefix in zip(apps, prefixes, strict=True):
        if prefixes.count(prefix) > 1:
            raise SettingsError(f"settings: apps: two are named {app.name!r}: rename one")
    return apps


def _typed(place: str, table: dict[str, Any], environ: Mapping[str, str]) -> AnyAppSettings:
    prefix = variable_prefix(table.get("name", ""), "apps")
    kind = str(table.get("kind", ""))
    if kind not in KINDS:
        why = f"there is no kind {kind!r}" if kind else "it must be given"
        kinds = ", ".join(KINDS)
        raise wrong(f"{place}.kind", f"{prefix}KIND", f"{why}: it takes {kinds}", environ)
    try:
        return msgspec.convert(table, KINDS[kind], strict=False)
    except msgspec.ValidationError as error:
        key, rule = place_and_rule(error)
        name = key or rule.partition(" ")[0]  # url, tls_ca or api_key: the message begins with it
        why = in_words(rule, name, KINDS[kind])
        raise wrong(f"{place}.{name}", f"{prefix}{name}".upper(), why, environ) from error

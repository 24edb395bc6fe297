"""Load the settings: the file, the variables, and the servers of a running ``mediabus up``."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from mediabus.runtime.settings import NAMED_TABLES, Section, Settings, SettingsError
from mediabus.runtime.settings_errors import Faults, in_words, wrong
from mediabus.runtime.settings_tables import converted
from mediabus.runtime.settings_variables import PREFIX, override
from mediabus.runtime.text_files import expanded, read_text
from mediabus.schemas.decoding import NOT_JSON

SETTINGS_FILE: Final = "mediabus.toml"
"""The settings file in the data directory, which the first ``mediabus up`` writes."""

CONNECTION_FILE: Final = "connection.json"
"""The file in the data directory that holds the URLs of the servers of ``mediabus up``."""

PATHS: Final = {
    "credentials",
    "data_dir",
    "nkey_seed_file",
    "password_file",
    "secret_file",
    "tls_ca",
}
"""The settings, in any table, that are a path on this machine."""


def load(
    path: str | None, environ: Mapping[str, str] | None = None, *, data_dir: str | None = None
) -> Settings:
    """Return the settings of the file that ``settings_path`` chooses, and of the environment.

    Variables of the environment override the file. Raises SettingsError.
    """
    settings, faults = examined(path, environ, data_dir=data_dir)
    faults.raise_first()
    return settings


def examined(
    path: str | None, environ: Mapping[str, str] | None = None, *, data_dir: str | None = None
) -> tuple[Settings, Faults]:
    """Like ``load``, but leave out the keys that cannot be used, and return the errors about them.

    Raises:
        SettingsError: the file as a whole cannot be used.
    """
    environ = os.environ if environ is None else environ
    tables, faults = _read(settings_path(path, environ, data_dir=data_dir)), Faults()
    _checked(tables, {}, faults)  # so that the tables have the types that override relies on
    for error in override(tables, environ).found:
        faults.add(error)
    _refuse_nul(tables)
    _expand_paths(tables)
    return _checked(tables, environ, faults), faults


def settings_path(
    path: str | None, environ: Mapping[str, str] | None = None, *, data_dir: str | None = None
) -> str | None:
    """Return the settings file to read: ``path``, or else that of ``MEDIABUS_CONFIG``.

    Without either, it is ``SETTINGS_FILE`` in the data directory, or None if there is none.
    """
    environ = os.environ if environ is None else environ
    if named := path or environ.get("MEDIABUS_CONFIG"):
        return named
    folder = data_dir or environ.get("MEDIABUS_DATA_DIR") or Settings().data_dir
    found = str(Path(expanded(folder)) / SETTINGS_FILE)
    return found if os.path.exists(found) else None  # noqa: PTH110 - Path.exists may raise


def _refuse_nul(value: Any, key: str = "") -> None:  # noqa: ANN401 - any TOML value
    """Raise SettingsError for a NUL character: no path, URL or password can hold one."""
    match value:
        case dict():
            for name, inner in value.items():
                _refuse_nul(inner, f"{key}.{name}" if key else name)
        case list():
            for at, inner in enumerate(value):
                _refuse_nul(inner, f"{key}[{at}]")
        case str() if "\0" in value:
            raise SettingsError(f"settings: {key}: it cannot hold a NUL character")


def _expand_paths(tables: dict[str, Any]) -> None:
    named = [row for name in NAMED_TABLES for row in tables.get(name, []) if isinstance(row, dict)]
    sections = [table for table in tables.values() if isinstance(table, dict)]
    for table in (tables, *sections, *named):
        for key in PATHS & table.keys():
            if isinstance(table[key], str):
                table[key] = expanded(table[key])


def _checked(tables: dict[str, Any], environ: Mapping[str, str], faults: Faults) -> Settings:
    """Return the settings without the keys that cannot be used, which it removes from ``tables``.

    Raises SettingsError if a key cannot be removed.
    """

    def explain(key: str, rule: str) -> SettingsError:
        first, _, inside = key.partition(".")
        section = getattr(Settings(), first, None) if inside else None
        table = type(section) if isinstance(section, Section) else Settings
        name = inside.partition(".")[0] or first
        variable = f"{PREFIX}{key}".replace(".", "_").upper()
        return wrong(key, variable, in_words(rule, name, table), environ)

    settings = converted(tables, Settings, explain, faults)
    if settings is None:
        faults.raise_first()
        raise AssertionError("settings that cannot be converted have an error")
    return settings


class _Connection(msgspec.Struct):
    """The content of ``CONNECTION_FILE``, which ``mediabus up`` writes."""

    nats_url: str
    database_url: str


def resolved(settings: Settings) -> Settings:
    """Return the settings, with the servers of ``mediabus up`` in place of missing URLs.

    If ``mediabus up`` has not run here, the URLs stay None. Raises SettingsError.
    """
    path = Path(expanded(settings.data_dir)) / CONNECTION_FILE
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_Connection)
    except FileNotFoundError:
        return settings
    except (OSError, *NOT_JSON) as error:
        raise SettingsError(f"{path} is unusable ({error}): start `mediabus up` again") from error
    replace = msgspec.structs.replace
    nats, database = settings.nats, settings.database
    return replace(
        settings,
        nats=replace(nats, url=nats.url or found.nats_url),
        database=replace(database, url=database.url or found.database_url),
    )


def _read(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(read_text(path))
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {path}: {error.strerror}") from error
    except ValueError as error:  # TOMLDecodeError, NotText, and a number of too many digits
        raise SettingsError(f"{path} is not valid TOML: {error}") from error
    except RecursionError:
        raise SettingsError(f"{path} is not valid TOML: it is nested too deeply") from None

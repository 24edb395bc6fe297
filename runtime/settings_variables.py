"""The variables that override settings, and those that name no setting."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from mediabus.runtime.settings import NAMED_TABLES, Section, Settings, SettingsError
from mediabus.runtime.settings_errors import Faults
from mediabus.runtime.text_files import read_text

PREFIX: Final = "MEDIABUS_"


def override(tables: dict[str, Any], environ: Mapping[str, str]) -> Faults:
    """Override the tables with variables. Returns the errors of those that cannot be read.

    ``MEDIABUS_NATS_URL`` sets ``url`` of ``[nats]``, and ``MEDIABUS_CLIENTS_<NAME>_PASSWORD`` sets
    the password of that client.
    """
    given = _Given(environ)
    for field in msgspec.structs.fields(Settings):
        if field.name in NAMED_TABLES:
            continue
        if isinstance(field.type, type) and issubclass(field.type, Section):
            _override_section(tables.setdefault(field.name, {}), field.name, field.type, given)
        else:
            given.take(tables, field.name, f"{PREFIX}{field.name}".upper())
    _override_rows(tables, given)
    return given.faults


def _override_section(
    table: dict[str, Any], name: str, section: type[Section], given: "_Given"
) -> None:
    for key in msgspec.structs.fields(section):
        given.take(table, key.name, f"{PREFIX}{name}_{key.name}".upper())
        if key.type == list[str] and isinstance(table.get(key.name), str):
            table[key.name] = [item.strip() for item in table[key.name].split(",")]


def _override_rows(tables: dict[str, Any], given: "_Given") -> None:
    rows = _rows(tables)
    for variable in given.environ:
        # The longest name wins: MEDIABUS_CLIENTS_HOME_1_URL is for home-1, not for home.
        prefix = max(filter(variable.startswith, rows), key=len, default=None)
        if prefix is not None:
            setting = variable.removeprefix(prefix).removesuffix("_FILE").lower()
            given.take(rows[prefix], setting, f"{prefix}{setting}".upper())


def _rows(tables: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the tables that have a name, by the prefix of their variables."""
    return {
        variable_prefix(row.get("name", ""), table): row
        for table in NAMED_TABLES
        for row in tables.get(table, [])
    }


def unclaimed_variables(settings: Settings, environ: Mapping[str, str]) -> list[str]:
    """Return a warning for each variable of a client, app or target that the settings lack."""
    rows = tuple(_rows(msgspec.structs.asdict(settings)))
    return [
        f"{variable} sets nothing: there is no table [[{table}]] with such a name"
        for variable in sorted(environ)
        for table in NAMED_TABLES
        if variable.startswith(f"{PREFIX}{table}_".upper()) and not variable.startswith(rows)
    ]


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Return a warning for each variable with the prefix that names no setting.

    Variables of clients are exempt: their clients may be in a file that another process reads.
    """
    known = _known_variables()
    rows = tuple(f"{PREFIX}{name}_".upper() for name in NAMED_TABLES)
    return [
        f"{variable} is not a setting: docs/operations.md lists them"
        for variable in sorted(environ)
        if variable.startswith(PREFIX)
        and not variable.startswith(rows)
        and known.isdisjoint({variable, variable.removesuffix("_FILE")})
    ]


def _known_variables() -> set[str]:
    known = {f"{PREFIX}CONFIG"}
    for field in msgspec.structs.fields(Settings):
        name = f"{PREFIX}{field.name}".upper()
        if isinstance(field.type, type) and issubclass(field.type, Section):
            keys = msgspec.structs.fields(field.type)
            known |= {f"{name}_{key.name}".upper() for key in keys}
        else:
            known.add(name)
    return known


def variable_prefix(name: str, table: str = "clients") -> str:
    """Return the prefix of the variables of a client, or of a row of another table."""
    return f"{PREFIX}{table}_{name}_".upper().replace("-", "_")


class _Given:
    """The variables of the environment, and the errors about the files that they name."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.faults = Faults()

    def take(self, table: dict[str, Any], key: str, variable: str) -> None:
        """Set a key from its variable, or from the file that its variable names."""
        if variable in self.environ:
            table[key] = self.environ[variable]
        elif f"{variable}_FILE" in self.environ:
            with self.faults.collected():
                table[key] = _content(f"{variable}_FILE", self.environ)


def _content(variable: str, environ: Mapping[str, str]) -> str:
    path = environ[variable]
    shown = path if "/" in path else "the file that it names"  # it may hold the secret itself
    try:
        return read_text(path).rstrip("\r\n")
    except OSError as error:
        raise SettingsError(
            f"{variable}: cannot read {shown}: {error.strerror}"
        ) from None  # the cause names the path
    except ValueError as error:
        raise SettingsError(f"{variable}: cannot use {shown}: {error}") from None

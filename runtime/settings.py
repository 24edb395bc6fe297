"""The settings: one TOML file, every key overridable by a variable, read once and typed."""

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

import msgspec

from service.runtime.places import place_and_rule

PREFIX: Final = "MEDIABUS_"

CONNECTION_FILE: Final = "connection.json"
"""In the data directory: where the servers of ``mediabus up`` are."""

Seconds = Annotated[float, msgspec.Meta(gt=0)]


class SettingsError(Exception):
    """The settings cannot be used; the message names the key and what it takes."""


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the settings file."""


class NatsSettings(_Section, frozen=True):
    """``url`` may hold several servers, separated by commas. Without one, ``mediabus up`` starts a
    server of its own and the other commands look for that. ``nkey_seed_file`` says who we are,
    ``tls_ca`` who signed the server's certificate: with it, a server without TLS is refused.
    ``max_age_days`` is how long the stream keeps an event for replay; ``replicas`` is how many
    servers of a cluster keep each."""

    url: str | None = None
    credentials: str | None = None
    user: str | None = None
    password: str | None = None
    nkey_seed_file: str | None = None
    tls_ca: str | None = None
    replicas: Annotated[int, msgspec.Meta(ge=1, le=5)] = 1
    max_age_days: Annotated[float, msgspec.Meta(gt=0)] = 30.0


class DatabaseSettings(_Section, frozen=True):
    """``url`` as libpq takes it; without one, ``mediabus up`` starts a server of its own.
    ``events_url`` is for those who keep the events apart from the operations."""

    url: str | None = None
    password: str | None = None
    events_url: str | None = None
    pool_size: Annotated[int, msgspec.Meta(ge=2, le=100)] = 10


class LogSettings(_Section, frozen=True):
    """``format`` ``auto`` is ``console`` on a terminal and ``json`` elsewhere."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


class HttpSettings(_Section, frozen=True):
    """Where ``/livez``, ``/readyz`` and ``/metrics`` are served. Port 0 takes any free one."""

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] | None = None


class MonitorSettings(_Section, frozen=True):
    """``unreachable_after``: how long a client must not answer before that is an event.
    ``removed_after``: how long a download must be missing, over at least two polls, before it
    counts as removed. ``stalled_after``: how long a download must be seen without a byte before it
    has stalled. ``discovered_after``: how long a stranger must be there before it is one. All in
    seconds."""

    unreachable_after: Seconds = 30.0
    removed_after: Seconds = 5.0
    stalled_after: Seconds = 3600.0
    discovered_after: Seconds = 10.0


class DownloadsSettings(_Section, frozen=True):
    """``allowed_hosts``: where the URLs of ``downloads.initiate`` may lead beside the internet,
    such as to an indexer at home: hosts, with a port or for every port, and networks."""

    allowed_hosts: list[str] = []


class PersisterSettings(_Section, frozen=True):
    """``batch`` is the most events written at once, ``writers`` how many batches are under way.
    ``keep_months`` drops events older than that; without it they stay."""

    batch: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1000
    writers: Annotated[int, msgspec.Meta(ge=1, le=16)] = 2
    keep_months: Annotated[int, msgspec.Meta(ge=1)] | None = None


class Settings(_Section, frozen=True):
    """All of them. ``clients`` stays raw here: the runtime need not know which kinds there are."""

    data_dir: str = "mediabus-data"
    nats: NatsSettings = NatsSettings()
    database: DatabaseSettings = DatabaseSettings()
    log: LogSettings = LogSettings()
    http: HttpSettings = HttpSettings()
    downloads: DownloadsSettings = DownloadsSettings()
    monitor: MonitorSettings = MonitorSettings()
    persister: PersisterSettings = PersisterSettings()
    clients: list[dict[str, Any]] = []


def load(path: str | None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of the file at ``path`` (or ``MEDIABUS_CONFIG``), with what the environment says
    on top. Raises SettingsError."""
    environ = os.environ if environ is None else environ
    tables = _read(path or environ.get("MEDIABUS_CONFIG"))
    _checked(tables, {})  # a file is sound by itself, so that a variable finds its place in it
    _override(tables, environ)
    return _checked(tables, environ)


def _checked(tables: dict[str, Any], environ: Mapping[str, str]) -> Settings:
    try:
        return msgspec.convert(tables, Settings, strict=False)
    except msgspec.ValidationError as error:
        key, rule = place_and_rule(error)
        section, _, name = str(key).rpartition(".")
        table = type(getattr(Settings(), section)) if section else Settings
        variable = f"{PREFIX}{key}".replace(".", "_").upper()
        raise wrong(str(key), variable, in_words(rule, name, table), environ) from error


def wrong(key: str, variable: str, why: str, environ: Mapping[str, str]) -> SettingsError:
    """What to raise about a setting, named as it was given: by its variable, or by its key."""
    variables = (name for name in (variable, f"{variable}_FILE") if name in environ)
    return SettingsError(f"{next(variables, f'settings: {key}')}: {why}")


def in_words(rule: str, name: str, table: type[msgspec.Struct]) -> str:
    """msgspec's rule that ``name`` breaks in a table, with what to write instead where it is short
    of that."""
    takes = {field.name: field.type for field in msgspec.structs.fields(table)}
    if rule.startswith("Object contains unknown field"):
        close = difflib.get_close_matches(name, takes, n=1)
        return "there is no such setting" + (f" (did you mean {close[0]}?)" if close else "")
    if rule.startswith("Object missing required field"):
        return "it must be given"
    if rule.startswith("Invalid enum value"):
        return f"{rule}: it takes {', '.join(get_args(takes[name]))}"
    if name == "clients" and rule.endswith("got `object`"):
        return "a client is a table [[clients]], with two brackets"
    return rule


class _Connection(msgspec.Struct):
    """What ``mediabus up`` leaves in ``CONNECTION_FILE``."""

    nats_url: str
    database_url: str


def resolved(settings: Settings) -> Settings:
    """The settings, with the servers of ``mediabus up`` where they name none. Without those either,
    the URLs stay open. Raises SettingsError."""
    path = Path(settings.data_dir) / CONNECTION_FILE
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_Connection)
    except FileNotFoundError:
        return settings
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
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
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from error


def _override(tables: dict[str, Any], environ: Mapping[str, str]) -> None:
    """Lets variables win: ``MEDIABUS_NATS_URL`` is ``url`` of ``[nats]``, and
    ``MEDIABUS_CLIENTS_<NAME>_PASSWORD`` the password of that client."""
    for field in msgspec.structs.fields(Settings):
        if field.name == "clients":
            continue
        if isinstance(field.type, type) and issubclass(field.type, _Section):
            table = tables.setdefault(field.name, {})
            for key in msgspec.structs.fields(field.type):
                _take(table, key.name, f"{PREFIX}{field.name}_{key.name}".upper(), environ)
                if key.type == list[str] and isinstance(table.get(key.name), str):
                    table[key.name] = [item.strip() for item in table[key.name].split(",")]
        else:
            _take(tables, field.name, f"{PREFIX}{field.name}".upper(), environ)
    clients = {
        variable_prefix(client.get("name", "")): client for client in tables.get("clients", [])
    }
    for variable in environ:
        # The longest name: MEDIABUS_CLIENTS_HOME_1_URL is for home-1, not for home.
        prefix = max((p for p in clients if variable.startswith(p)), key=len, default=None)
        if prefix is not None:
            setting = variable.removeprefix(prefix).removesuffix("_FILE").lower()
            _take(clients[prefix], setting, f"{prefix}{setting}".upper(), environ)


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """A line for each variable that looks like a setting and is none. Those of clients are for a
    file that other processes may have."""
    known = {f"{PREFIX}CONFIG"}
    for field in msgspec.structs.fields(Settings):
        section = isinstance(field.type, type) and issubclass(field.type, _Section)
        keys = [f"_{key.name}" for key in msgspec.structs.fields(field.type)] if section else [""]
        known |= {f"{PREFIX}{field.name}{key}".upper() for key in keys}
    return [
        f"{variable} is no setting: docs/operations.md has them"
        for variable in sorted(environ)
        if variable.startswith(PREFIX)
        and not variable.startswith(f"{PREFIX}CLIENTS_")
        and known.isdisjoint({variable, variable.removesuffix("_FILE")})
    ]


def variable_prefix(client: str) -> str:
    """How the variables of a client begin."""
    return f"{PREFIX}CLIENTS_{client}_".upper().replace("-", "_")


def _take(table: dict[str, Any], key: str, variable: str, environ: Mapping[str, str]) -> None:
    if variable in environ:
        table[key] = environ[variable]
    elif f"{variable}_FILE" in environ:
        path = environ[f"{variable}_FILE"]
        try:
            table[key] = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            raise SettingsError(f"{variable}_FILE: cannot read {path}: {error.strerror}") from error
        except UnicodeDecodeError:  # it quotes a byte of the secret
            raise SettingsError(f"{variable}_FILE: {path} holds no text in UTF-8") from None

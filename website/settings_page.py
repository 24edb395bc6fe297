"""Make docs/reference/settings.md from the classes of the settings."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec
from msgspec import inspect

from mediabus.config.json_schema import descriptions
from mediabus.consumers.notifier.settings import TargetSettings
from mediabus.runtime.settings import NAMED_TABLES, Section, Settings, WebUser
from mediabus.service.apps import configured as apps
from mediabus.service.apps.settings import AppSettings
from mediabus.service.clients import sessions as clients
from mediabus.service.clients.http import HttpSettings
from mediabus.service.clients.settings import ClientSettings
from website.docstrings import paragraphs
from website.markdown import escaped, table
from website.setting_types import default, described

HEAD: Final = """\
# Settings

<!-- Made by `make reference` from the classes of the settings; a test fails when it is stale. -->

Every table and key of the settings file, `mediabus.toml`. `MEDIABUS_CONFIG` or `mediabus --config`
names the file. [Operations](../operations.md#settings) explains how the settings work together.

Each key can also be a variable, which overrides the file: `MEDIABUS_NATS_URL` is `url` of `[nats]`,
and `MEDIABUS_NATS_URL_FILE` names a file that holds it. In `[[clients]]`, `[[apps]]` and
`[[notify]]`, the name is part of the variable: `MEDIABUS_CLIENTS_HOME_PASSWORD`.
"""

COLUMNS: Final = ("key", "type", "default", "meaning")

ARRAYS: Final[dict[str, tuple[type[msgspec.Struct], Mapping[str, type[msgspec.Struct]], str]]] = {
    "clients": (
        ClientSettings,
        clients.KINDS,
        "a download client; see [clients.md](../clients.md)",
    ),
    "apps": (AppSettings, apps.KINDS, "an application; see [apps.md](../apps.md)"),
    "notify": (
        TargetSettings,
        {},
        "a target of notifications; see [notifications.md](../notifications.md#settings)",
    ),
}
"""The arrays of tables: what all rows share, the class of each kind, and what a row is."""


def markdown() -> str:
    """Return the whole page."""
    return "\n".join((HEAD, *_sections())).rstrip() + "\n"


def _sections() -> Iterator[str]:
    fields = msgspec.structs.fields(Settings)
    tables = {field.name: field.type for field in fields if _is_section(field.type)}
    yield "## Before all tables\n"
    yield from _keys(Settings, {field.name for field in fields} - tables.keys() - {*NAMED_TABLES})
    for name, section in tables.items():
        yield f"## [{name}]\n"
        yield from _summary(section)
        yield from _keys(section)
    yield "## [[web.users]]\n"
    yield from _summary(WebUser)
    yield from _keys(WebUser)
    for name, (shared, kinds, what) in ARRAYS.items():
        yield from _array(name, shared, kinds, what)


def _is_section(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


def _summary(section: type) -> Iterator[str]:
    """Yield the first paragraph of a docstring, without the name of its own table."""
    text = paragraphs(section.__doc__)[0]
    what = text.partition("`: ")[2] or text.partition("`, ")[2]
    if what:
        yield f"{what[0].upper()}{what[1:]}\n"


def _keys(section: type[msgspec.Struct], only: set[str] | None = None) -> Iterator[str]:
    yield from table(COLUMNS, _rows(section, only))


def _rows(section: type[msgspec.Struct], only: set[str] | None) -> Iterator[tuple[str, ...]]:
    known = descriptions(section)
    info = inspect.type_info(section)
    assert isinstance(info, inspect.StructType)
    for field in info.fields:
        name = field.encode_name
        if only is None or name in only:
            yield f"`{name}`", described(field.type), default(field), escaped(known[field.name])


def _array(
    name: str,
    shared: type[msgspec.Struct],
    kinds: Mapping[str, type[msgspec.Struct]],
    what: str,
) -> Iterator[str]:
    yield f"## [[{name}]]\n"
    yield f"Each table is {what}."
    if kinds:
        yield f"`kind`, which is required, is {_joined(kinds, 'or')}."
    yield ""
    yield from _keys(shared)
    over_http = [kind for kind, settings in kinds.items() if issubclass(settings, HttpSettings)]
    if over_http:
        yield f"The kinds {_joined(over_http, 'and')} also have:\n"
        yield from _keys(HttpSettings, _keys_of(HttpSettings) - _keys_of(shared))
    for kind, settings in kinds.items():
        yield from _kind(kind, shared, settings)


def _joined(words: Iterable[str], conjunction: str) -> str:
    *most, last = (f"`{word}`" for word in words)
    return f"{', '.join(most)} {conjunction} {last}"


def _keys_of(settings: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(settings)}


def _kind(kind: str, shared: type[msgspec.Struct], settings: type[msgspec.Struct]) -> Iterator[str]:
    """Yield what one kind has in addition: notes of its docstring, and keys of its own."""
    notes = [text for text in paragraphs(settings.__dict__.get("__doc__"))[1:] if text]
    own = _keys_of(settings) - _keys_of(shared)
    own -= _keys_of(HttpSettings) if issubclass(settings, HttpSettings) else set()
    if not notes and not own:
        return
    yield f"### {kind}\n"
    for note in notes:
        yield f"{note}\n"
    if own:
        yield from _keys(settings, own)

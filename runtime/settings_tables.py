"""Convert tables of the settings to typed structs, and find every error in them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

import msgspec

from mediabus.runtime.settings import SettingsError
from mediabus.runtime.settings_errors import Faults, in_words, wrong
from mediabus.runtime.settings_variables import variable_prefix
from mediabus.runtime.validation_errors import place_and_rule


class Row(Protocol):
    """A table of an array of tables, such as ``[[clients]]``."""

    @property
    def name(self) -> str: ...


T = TypeVar("T")
RowT = TypeVar("RowT", bound=Row)

Explain = Callable[[str, str], SettingsError]
"""Returns the error for a key, such as ``nats.url``, that breaks a rule."""


def converted(table: dict[str, Any], to: type[T], explain: Explain, faults: Faults) -> T | None:
    """Convert a table, without the keys that cannot be used, and add an error for each of these.

    Removes these keys from ``table``. Returns None if a key that must be given is one of them.
    """
    removed: set[str] = set()
    while True:
        try:
            return msgspec.convert(table, to, strict=False)
        except msgspec.ValidationError as error:
            place, rule = place_and_rule(error)
            key = place or rule.partition(" ")[0]  # a rule of our own begins with its key
            if key not in removed:
                faults.add(explain(key, rule))
            if not _removed(table, key):
                return None
            removed.add(key)


def _removed(table: dict[str, Any], key: str) -> bool:
    """Remove a key, such as ``nats.url``. Of ``web.users[0].name``, remove ``web.users``."""
    *outer, last = key.split(".")
    for name in outer:
        if not isinstance(table.get(name), dict):
            last = name
            break
        table = table[name]
    candidates = (key, last, last.partition("[")[0])  # a quoted key may hold any character
    found = next((name for name in candidates if name in table), None)
    return found is not None and table.pop(found) is not None


def typed_rows(
    rows: Sequence[Mapping[str, Any]],
    kinds: Mapping[str, type[RowT]],
    name: str,
    environ: Mapping[str, str],
) -> tuple[RowT, ...]:
    """Convert the tables ``[[name]]``, each to the struct of its ``kind``.

    Raises:
        SettingsError: a table cannot be used. It names the key, or the variable that set it.
    """
    faults, typed = Faults(), []
    for number, row in enumerate(rows):
        prefix = variable_prefix(row.get("name", ""), name)
        with faults.collected():
            typed.append(_typed(f"{name}[{number}]", dict(row), kinds, prefix, environ))
    with faults.collected():
        refuse_twins(name, typed)
    faults.raise_first()
    return tuple(typed)


def refuse_twins(table: str, rows: Sequence[Row]) -> None:
    """Raise SettingsError if the variables of two tables would have the same names."""
    prefixes = [variable_prefix(row.name, table) for row in rows]
    for row, prefix in zip(rows, prefixes, strict=True):
        if prefixes.count(prefix) > 1:
            raise SettingsError(f"settings: {table}: two are named {row.name!r}: rename one")


def _typed(
    place: str,
    row: dict[str, Any],
    kinds: Mapping[str, type[RowT]],
    prefix: str,
    environ: Mapping[str, str],
) -> RowT:
    kind = str(row.get("kind", ""))
    if kind not in kinds:
        why = f"there is no kind {kind!r}" if kind else "it must be given"
        raise wrong(
            f"{place}.kind", f"{prefix}KIND", f"{why}: it takes {', '.join(kinds)}", environ
        )
    faults, struct = Faults(), cast("type[msgspec.Struct]", kinds[kind])

    def explain(key: str, rule: str) -> SettingsError:
        why = in_words(rule, key, struct)
        return wrong(f"{place}.{key}", f"{prefix}{key}".upper(), why, environ)

    typed = converted(row, kinds[kind], explain, faults)
    faults.raise_first()
    if typed is None:
        raise AssertionError("a table that cannot be converted has an error")
    return typed

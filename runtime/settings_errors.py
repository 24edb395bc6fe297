"""Errors about a setting: they name it as it was given, and say what it accepts."""

import contextlib
import difflib
from collections.abc import Iterator, Mapping
from typing import Final, Literal, get_args, get_origin

import msgspec

from mediabus.runtime.settings import NAMED_TABLES, SettingsError, StreamName


class Faults:
    """Collects errors, so that a user sees all of them at once."""

    def __init__(self) -> None:
        self._found: Final[dict[str, SettingsError]] = {}

    @property
    def found(self) -> tuple[SettingsError, ...]:
        """The errors, each once."""
        return tuple(self._found.values())

    @contextlib.contextmanager
    def collected(self) -> Iterator[None]:
        """Collect the SettingsError that ends the block, and continue after the block."""
        try:
            yield
        except SettingsError as error:
            self.add(error)

    def add(self, error: SettingsError) -> None:
        """Add an error, and those that were found with it."""
        for one in (error, *error.further):
            self._found.setdefault(str(one), one)

    def raise_first(self) -> None:
        """Raise the first error, with the others in ``further``; return if nothing was found."""
        if self._found:
            first, *rest = self._found.values()
            first.further = tuple(rest)
            raise first


def wrong(key: str, variable: str, why: str, environ: Mapping[str, str]) -> SettingsError:
    """Return the error for a setting, named by its variable if that is set, else by its key."""
    variables = (name for name in (variable, f"{variable}_FILE") if name in environ)
    return SettingsError(f"{next(variables, f'settings: {key}')}: {why}")


def in_words(rule: str, name: str, table: type[msgspec.Struct]) -> str:
    """Reword msgspec's message about ``name`` in a table where it lacks what to write instead."""
    takes = {field.encode_name: field.type for field in msgspec.structs.fields(table)}
    if rule.startswith("Object contains unknown field"):
        close = difflib.get_close_matches(name, takes, n=1)
        return "there is no such setting" + (f" (did you mean {close[0]}?)" if close else "")
    if rule.startswith("Object missing required field"):
        return "it must be given"
    if rule.startswith("Invalid enum value") and name in takes:
        types = (takes[name], *get_args(takes[name]), StreamName)
        known = next(one for one in types if get_origin(one) is Literal)
        return f"{rule}: it takes {', '.join(get_args(known))}"
    if name in NAMED_TABLES and rule.endswith("got `object`"):
        return f"it is a list of tables: write [[{name}]], with two brackets"
    return rule

"""Make docs/reference/api.md from the docstrings of the public names of mediabus."""

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Final, is_typeddict

import msgspec

import mediabus
from mediabus.api import operations
from mediabus.api.bus import Bus
from website import docstrings, source
from website.markdown import fence

HEAD: Final = """\
# Python API

<!-- Made by `make reference` from the docstrings; a test fails when it is stale. -->

The names of `mediabus.__all__` are public. Everything else may change in any release. The examples
are those of the docstrings, and tests run them. `python -m asyncio` accepts their `await` and
`async with` at its prompt. To begin, follow [Your first consumer](../first-consumer.md).
"""

GROUPS: Final = {
    "Connect": ("connect", "Bus"),
    "Consume": ("consume", "RetryPolicy", "Rejected", "RetryLater"),
    "Events": ("Envelope", "Actor", "Resource"),
    "Errors": (
        *("CannotConnect", "InvalidEvent", "NoAnswer"),
        *("OperationFailed", "PublishFailed", "SettingsError"),
    ),
}
MODULES: Final = {
    "events": "The classes of all event types, one for each type of [events.md](../events.md).",
    "subjects": "The subjects, streams and consumers of NATS, and functions that make subjects.",
    "__version__": "The version of the package, as text.",
}
"""The public names that have no docstring of their own."""

CLIENTS: Final = {
    "media": "Media",
    "downloads": "Downloads",
    "history": "History",
    "dead_letters": "DeadLetters",
    "apps": "Applications",
}
"""The typed clients of a ``Bus``, by attribute."""


def markdown() -> str:
    """Return the whole page."""
    return "\n".join((HEAD, *_sections())).rstrip() + "\n"


def _sections() -> Iterator[str]:
    for group, names in GROUPS.items():
        yield f"## {group}\n"
        for name in names:
            home = _home(name)
            yield from _described(source.definition(home, name), f"mediabus.{name}", 3)
            if name == "Bus":
                yield from _clients()
    yield "## Modules and version\n"
    for name, text in MODULES.items():
        yield f"### mediabus.{name}\n"
        yield f"{text}\n"
    yield "## Arguments and replies\n"
    yield "The types that the operations above name. They are not imported by name.\n"
    for cls in _named_types():
        yield from _described(source.definition(sys.modules[cls.__module__], cls.__name__), "", 3)


def _home(name: str) -> ModuleType:
    """Return the module that defines a public name."""
    return importlib.import_module(getattr(mediabus, name).__module__)


def _clients() -> Iterator[str]:
    for attribute, name in CLIENTS.items():
        node = source.definition(operations, name)
        yield f"### bus.{attribute}\n"
        yield from docstrings.markdown(ast.get_docstring(node))
        assert isinstance(node, ast.ClassDef)
        yield from _methods(node, f"bus.{attribute}.")
    yield "Every operation raises `OperationFailed` and `NoAnswer`.\n"


def _described(node: source.Definition, name: str, depth: int) -> Iterator[str]:
    """Yield a heading, the signature or the fields, and the docstring."""
    yield f"{'#' * depth} {name or node.name}\n"
    if isinstance(node, ast.ClassDef):
        yield from _class_head(node)
    else:
        yield fence("python", source.call(node, name))
    yield from docstrings.markdown(ast.get_docstring(node))
    if isinstance(node, ast.ClassDef):
        prefix = "bus." if node.name == Bus.__name__ else f"{node.name}."
        yield from _methods(node, prefix)


def _class_head(node: ast.ClassDef) -> Iterator[str]:
    init = source.constructor(node)
    fields = [*source.fields(node)]
    shown = {cls.__name__ for cls in _named_types()}
    for base in filter(shown.__contains__, source.bases(node)):
        yield f"All of [{base}](#{base.lower()}), and:\n"
    if fields:
        yield fence("python", "\n".join(fields))
    elif init is not None and node.name == "RetryLater":
        yield fence("python", source.signature(init, node.name))


def _methods(node: ast.ClassDef, prefix: str) -> Iterator[str]:
    for method in source.methods(node):
        yield f"#### {prefix}{method.name}\n"
        yield fence("python", source.call(method, f"{prefix}{method.name}"))
        yield from docstrings.markdown(ast.get_docstring(method))


def _named_types() -> list[type]:
    """Return the arguments and replies that the typed clients name, in the order of their use."""
    found: dict[str, type] = {}
    for client in CLIENTS.values():
        node = source.definition(operations, client)
        assert isinstance(node, ast.ClassDef)
        for method in source.methods(node):
            _collect(source.signature(method, ""), vars(operations), found)
    return [*found.values()]


def _collect(text: str, names: dict[str, Any], found: dict[str, type]) -> None:
    for word in re.findall(r"\w+", text):
        named = names.get(word)
        if isinstance(named, type) and (is_typeddict(named) or issubclass(named, msgspec.Struct)):
            found.setdefault(word, named)

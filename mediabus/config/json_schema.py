"""Derive the JSON Schema of the settings file from the types that parse it."""

import ast
import inspect
import itertools
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from mediabus.consumers.notifier.settings import KINDS as TARGET_KINDS
from mediabus.consumers.notifier.settings import TargetSettings
from mediabus.runtime.settings import Settings
from mediabus.schemas.docs.contracts import DIALECT, Document
from mediabus.service.apps.configured import KINDS as APP_KINDS
from mediabus.service.apps.settings import AppSettings
from mediabus.service.clients.sessions import KINDS as CLIENT_KINDS
from mediabus.service.clients.settings import ClientSettings

Struct = type[msgspec.Struct]

ROWS: Final[dict[str, tuple[Struct, Mapping[str, Struct]]]] = {
    "apps": (AppSettings, APP_KINDS),
    "clients": (ClientSettings, CLIENT_KINDS),
}
"""The arrays of tables whose keys depend on ``kind``: what all kinds share, and each kind."""


KIND: Final = "The program, on which the other keys depend."


def json_schema() -> Document:
    """Return the JSON Schema (2020-12) of the settings file."""
    definitions = _definitions([Settings, TargetSettings, AppSettings, ClientSettings])
    for _, kinds in ROWS.values():
        definitions |= _definitions(kinds.values())
    root = definitions.pop("Settings")
    for name, (shared, kinds) in ROWS.items():
        shared_properties = definitions.pop(shared.__name__)["properties"]
        root["properties"][name] = _rows(shared_properties, kinds)
    definitions["TargetSettings"]["not"] = {"anyOf": _two_of(TARGET_KINDS)}
    root["properties"]["notify"] = {"type": "array", "items": _reference(TargetSettings)}
    return {
        "$schema": DIALECT,
        **root,
        "title": "The settings of mediabus",
        "description": "mediabus.toml. A variable MEDIABUS_<TABLE>_<KEY> overrides each key.",
        "$defs": {name: definitions[name] for name in sorted(definitions)},
    }


def _definitions(structs: Iterable[Struct]) -> Document:
    """Return the schemas of structs, and of those in them, by their names."""
    structs = list(structs)
    _, definitions = msgspec.json.schema_components(structs, ref_template="#/$defs/{name}")
    found = {struct.__name__: struct for root in structs for struct in _structs_in(root)}
    for name, schema in definitions.items():
        schema["description"] = " ".join(str(schema.get("description", "")).split())
        schema["properties"] = {
            key: _for_toml(value) for key, value in schema["properties"].items()
        }
        _describe(schema["properties"], found[name])
    return definitions


def _structs_in(struct: Struct) -> list[Struct]:
    """Return a struct and those that its keys hold."""
    found = [struct]
    for field in msgspec.structs.fields(struct):
        for inner in (field.type, *getattr(field.type, "__args__", ())):
            if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                found += _structs_in(inner)
    return found


def _for_toml(schema: Document) -> Document:
    """Return a schema without null, which TOML lacks."""
    schema = {name: value for name, value in schema.items() if (name, value) != ("default", None)}
    if "enum" in schema:
        schema["enum"] = [value for value in schema["enum"] if value is not None]
    choices = [choice for choice in schema.pop("anyOf", []) if choice != {"type": "null"}]
    if len(choices) == 1:
        return {**choices[0], **schema}
    return {"anyOf": choices, **schema} if choices else schema


def _describe(properties: Document, struct: Struct) -> None:
    """Add the description and the default of each key."""
    documented = descriptions(struct)
    if "kind" in properties:
        properties["kind"]["description"] = KIND
    for field in msgspec.structs.fields(struct):
        schema = properties[field.encode_name]
        if isinstance(field.default, msgspec.Struct):
            schema.pop("default", None)
        elif field.default_factory is not msgspec.NODEFAULT and (made := field.default_factory()):
            schema["default"] = made
        if field.name in documented:
            schema["description"] = documented[field.name]


def descriptions(struct: Struct) -> dict[str, str]:
    """Return the docstring of each key of a struct, and of its base classes."""
    found: dict[str, str] = {}
    for base in reversed(struct.__mro__):
        if issubclass(base, msgspec.Struct) and base is not msgspec.Struct:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
            found |= _docstrings(tree.body if isinstance(tree, ast.ClassDef) else [])
    return found


def _docstrings(body: Sequence[ast.stmt]) -> dict[str, str]:
    found = {}
    for key, text in itertools.pairwise(body):
        match key, text:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(words))),
            ):
                found[name] = " ".join(words.split())
    return found


def _rows(shared: Document, kinds: Mapping[str, Struct]) -> Document:
    """Return the schema of an array of tables whose keys depend on their ``kind``.

    An editor completes the keys that all kinds share. What depends on the kind is a condition,
    because a table that fits no alternative of an ``anyOf`` gets no error that names its key.
    """
    kind = {"enum": sorted(kinds), "description": KIND}
    return {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {**shared, "kind": kind},
            "required": ["kind"],
            "allOf": [
                {
                    "if": {"properties": {"kind": {"const": name}}, "required": ["kind"]},
                    "then": _reference(kinds[name]),
                }
                for name in sorted(kinds)
            ],
        },
    }


def _reference(struct: Struct) -> Document:
    return {"$ref": f"#/$defs/{struct.__name__}"}


def _two_of(names: Sequence[str]) -> list[Document]:
    """Return a schema for each two names that a table may not have together."""
    return [{"required": list(pair)} for pair in itertools.combinations(names, 2)]

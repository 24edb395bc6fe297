"""Compare two AsyncAPI documents of mediabus: which changes break programs written for the old one?

Programs send events and requests, and read events and replies. So what they send must still be
accepted, and what they read must still be there.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, Final

Schema = dict[str, Any]

LIMITS: Final = {
    "maximum": 1,
    "maxLength": 1,
    "maxItems": 1,
    "minimum": -1,
    "minLength": -1,
    "minItems": -1,
    "exclusiveMinimum": -1,
}
"""Keywords that bound a value: 1 where a smaller bound is narrower, -1 where a larger one is."""


def breaking_changes(old: Schema, new: Schema) -> list[str]:
    """Return a line for each change of ``new`` that breaks a program written for ``old``."""
    return sorted(_messages(old, new))


def _messages(old: Schema, new: Schema) -> Iterator[str]:
    before, after = old["components"]["messages"], new["components"]["messages"]
    for name, message in before.items():
        if name not in after:
            yield f"{name}: the message is gone"
            continue
        comparison = _Comparison(
            old,
            new,
            is_sent=not name.endswith(".reply"),
            is_read=not name.endswith(".request"),
        )
        yield from comparison.compare(message["payload"], after[name]["payload"], name)


@dataclasses.dataclass
class _Comparison:
    old: Schema
    new: Schema
    is_sent: bool
    is_read: bool
    seen: set[tuple[str, str]] = dataclasses.field(default_factory=set)

    def compare(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        """Yield what breaks from one schema to the other, and in all that they contain."""
        pair = (old.get("$ref", ""), new.get("$ref", ""))
        if all(pair):
            if pair in self.seen:
                return
            self.seen.add(pair)
        old, new = _resolved(self.old, old), _resolved(self.new, new)
        yield from self._kinds(old, new, path)
        yield from self._values(old, new, path)
        yield from self._limits(old, new, path)
        yield from self._fields(old, new, path)
        yield from self._members(old, new, path)

    def _kinds(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        before, after = _kinds_of(old), _kinds_of(new)
        if self.is_sent and (gone := before - after):
            yield f"{path}: no longer takes {', '.join(sorted(gone))}"
        if self.is_read and not self.is_sent and (added := after - before):
            yield f"{path}: may now be {', '.join(sorted(added))}"

    def _values(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        before, after = _enumerated(old), _enumerated(new)
        if self.is_sent and after is not None:
            if before is None:
                yield f"{path}: takes only some values now"
            elif gone := before - after:
                yield f"{path}: no longer takes {', '.join(sorted(gone))}"
        if self.is_sent and new.get("pattern") not in {None, old.get("pattern")}:
            yield f"{path}: has another pattern"

    def _limits(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        if not self.is_sent or "format" in old:  # a UUID, or a time: bounded by its form
            return
        for keyword, direction in LIMITS.items():
            if keyword not in new:
                continue
            if keyword not in old or (old[keyword] - new[keyword]) * direction > 0:
                yield f"{path}: {keyword} is {new[keyword]}, was {old.get(keyword, 'open')}"

    def _fields(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        for name, schema in before.items():
            if name in after:
                yield from self.compare(schema, after[name], f"{path}.{name}")
            else:
                yield f"{path}.{name}: the field is gone"
        required, requires = {*old.get("required", [])}, {*new.get("required", [])}
        if self.is_sent:
            yield from (f"{path}.{name}: is required now" for name in requires - required)
        if self.is_read:
            yield from (f"{path}.{name}: may be missing now" for name in required - requires)
        was_open = "properties" in old and old.get("additionalProperties") is not False
        if self.is_sent and was_open and new.get("additionalProperties") is False:
            yield f"{path}: unknown fields are refused now"

    def _members(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        for keyword in ("items", "additionalProperties"):
            before, after = old.get(keyword), new.get(keyword)
            if isinstance(before, dict) and isinstance(after, dict):
                yield from self.compare(before, after, f"{path}[]")
        for nth, (before, after) in enumerate(zip(_objects(old), _objects(new), strict=False)):
            yield from self.compare(before, after, f"{path}/{nth}")


def _resolved(document: Schema, schema: Schema) -> Schema:
    """Return a schema without references, and with the parts of ``allOf`` joined."""
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    joined: Schema = {key: value for key, value in schema.items() if key != "allOf"}
    for part in schema.get("allOf", []):
        resolved = _resolved(document, part)
        fields = joined.get("properties", {}) | resolved.get("properties", {})
        required = [*joined.get("required", []), *resolved.get("required", [])]
        joined = {**resolved, **joined, "properties": fields, "required": required}
    return joined


def _kinds_of(schema: Schema) -> set[str]:
    if "anyOf" in schema:
        return {kind for one in schema["anyOf"] for kind in _kinds_of(one)}
    if "$ref" in schema:
        return {"object"}
    if "type" in schema:
        return {schema["type"]} if isinstance(schema["type"], str) else {*schema["type"]}
    values = _enumerated(schema)
    return {"string"} if values else {"anything"}


def _enumerated(schema: Schema) -> set[str] | None:
    if "const" in schema:
        return {str(schema["const"])}
    return {str(value) for value in schema["enum"]} if "enum" in schema else None


def _objects(schema: Schema) -> list[Schema]:
    return [one for one in schema.get("anyOf", []) if "null" not in _kinds_of(one)]

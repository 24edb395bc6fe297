"""The filter dialects of CloudEvents Subscriptions: exact, prefix, suffix, all, any, not. Pure.

https://github.com/cloudevents/spec/blob/main/subscriptions/spec.md, section 3.2.4. An attribute
that begins with ``data.`` is a field of the event's data, which the specification leaves out.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from mediabus.schemas.envelope import Envelope

Filter = Callable[[Envelope], bool]

MAX_DEPTH: Final = 16
"""Dialects inside each other."""

DATA: Final = "data."
COMPARE: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "exact": str.__eq__,
    "prefix": str.startswith,
    "suffix": str.endswith,
}


def where(filters: object) -> Filter:
    """Return the filter that a setting describes: one table, or a list of which all must hold.

    Raises:
        ValueError: the setting is not a filter.
    """
    return _filter({"all": filters} if isinstance(filters, list) else filters, 0)


def _filter(table: object, depth: int) -> Filter:
    if depth > MAX_DEPTH:
        raise ValueError(f"filters are nested more than {MAX_DEPTH} times")
    if not isinstance(table, dict) or not table:
        raise ValueError(f"{table!r} is not a filter: use, for example, exact = {{type = '…'}}")
    parts = [_dialect(name, value, depth + 1) for name, value in table.items()]
    return parts[0] if len(parts) == 1 else _all(parts)


def _dialect(name: str, value: object, depth: int) -> Filter:
    match name:
        case "exact" | "prefix" | "suffix":
            return _compared(name, value)
        case "all":
            return _all(_several(name, value, depth))
        case "any":
            return _any(_several(name, value, depth))
        case "not":
            inner = _filter(value, depth)
            return lambda envelope: not inner(envelope)
        case _:
            raise ValueError(
                f"unknown dialect {name!r}: use exact, prefix, suffix, all, any or not"
            )


def _several(name: str, value: object, depth: int) -> Sequence[Filter]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{name} takes a list of filters")
    return [_filter(one, depth) for one in value]


def _all(parts: Sequence[Filter]) -> Filter:
    return lambda envelope: all(part(envelope) for part in parts)


def _any(parts: Sequence[Filter]) -> Filter:
    return lambda envelope: any(part(envelope) for part in parts)


def _compared(name: str, value: object) -> Filter:
    if not isinstance(value, dict) or not value:
        raise ValueError(f"{name} takes attributes and their values, such as {{type = '…'}}")
    compare = COMPARE[name]
    wanted = {attribute: text_of(one) for attribute, one in value.items()}
    if any(one is None for one in wanted.values()):
        raise ValueError(f"{name} compares with text, a number or true and false")

    def matches(envelope: Envelope) -> bool:
        found = {attribute: attribute_of(envelope, attribute) for attribute in wanted}
        return all(
            have is not None and want is not None and compare(have, want)
            for have, want in zip(found.values(), wanted.values(), strict=True)
        )

    return matches


def attribute_of(envelope: Envelope, name: str) -> str | None:
    """Return an attribute of a CloudEvent as text; None if the event does not have it."""
    if name.startswith(DATA):
        return text_of(_field(envelope.fields(), name.removeprefix(DATA)))
    values: dict[str, Any] = {
        "id": envelope.published_id or str(envelope.id),
        "source": envelope.source,
        "type": envelope.type,
        "subject": envelope.subject or (str(envelope.resource) if envelope.resource else None),
        "time": envelope.published_time or envelope.time.isoformat(),
        "specversion": "1.0",
        "datacontenttype": envelope.content_type,
        "dataschema": envelope.data_schema,
        "category": envelope.category,
        "severity": envelope.severity,
        "correlationid": envelope.correlation_id,
        "causationid": envelope.causation_id,
        "actortype": envelope.actor.type if envelope.actor else None,
        "actorid": envelope.actor.id if envelope.actor else None,
    }
    return text_of(values.get(name, envelope.extensions.get(name)))


def _field(fields: Mapping[str, Any], path: str) -> object:
    found: object = fields
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def text_of(value: object) -> str | None:
    """Return the text that CloudEvents compares; None if it is not a simple value."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int() | float():
            return f"{value:g}" if isinstance(value, float) else str(value)
    return None

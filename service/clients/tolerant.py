"""Decode JSON in which single values have the wrong type.

The rule for all clients: a field of the wrong type gets its default, so that one malformed value
does not hide the rest of the answer. A record without its id makes the whole answer unreadable,
because a download that is omitted looks removed.
"""

import logging
import math
from typing import Any, Final, TypeVar, get_args, get_origin

import msgspec

log: Final = logging.getLogger("mediabus.clients")

T = TypeVar("T")

MAX_BIGINT: Final = (1 << 63) - 1
"""The largest ``bigint`` of PostgreSQL."""


def mended(value: Any, kind: type[T]) -> T:  # noqa: ANN401 - any JSON
    """Convert decoded JSON into ``kind``, repairing what does not fit.

    A value of the wrong type is replaced by the default of its field. In a list of plain values, a
    malformed entry is omitted.

    Raises:
        msgspec.ValidationError: a field without a default does not fit, such as the id of a record.
    """
    return msgspec.convert(_mended(value, kind), kind, strict=False)


def _mended(value: Any, kind: Any) -> Any:  # noqa: ANN401 - any JSON for any annotation
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _mended_object(value, kind)
    if get_origin(kind) is list:
        return _mended_list(value, get_args(kind)[0])
    if kind is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if kind is int and isinstance(value, float) and math.isfinite(value):
        return int(value)
    if isinstance(value, dict) and (alternative := _struct_of(get_args(kind))):
        return _mended_object(value, alternative)
    msgspec.convert(value, kind, strict=False)
    return value


def _struct_of(alternatives: tuple[Any, ...]) -> type[msgspec.Struct] | None:
    """Return the struct among the types of a union."""
    structs = (
        alternative
        for alternative in alternatives
        if isinstance(alternative, type) and issubclass(alternative, msgspec.Struct)
    )
    return next(structs, None)


def _mended_object(value: Any, kind: type[msgspec.Struct]) -> dict[str, Any]:  # noqa: ANN401
    if not isinstance(value, dict):
        raise msgspec.ValidationError(f"Expected `object`, got `{type(value).__name__}`")
    fitting = {}
    for field in msgspec.structs.fields(kind):
        name = field.encode_name
        if name in value:
            try:
                fitting[name] = _mended(value[name], field.type)
            except msgspec.ValidationError as error:
                if field.required:
                    raise
                log.debug("field ignored", extra={"field": name, "reason": str(error)})
    return fitting


def _has_required(kind: type[msgspec.Struct]) -> bool:
    return any(field.required for field in msgspec.structs.fields(kind))


def _mended_list(values: Any, kind: Any) -> list[Any]:  # noqa: ANN401
    if not isinstance(values, list):
        raise msgspec.ValidationError(f"Expected `array`, got `{type(values).__name__}`")
    must_fit = isinstance(kind, type) and issubclass(kind, msgspec.Struct) and _has_required(kind)
    fitting = []
    for value in values:
        try:
            entry = _mended(value, kind)
            msgspec.convert(entry, kind, strict=False)
        except msgspec.ValidationError as error:
            if must_fit:
                raise
            log.debug("list entry ignored", extra={"reason": str(error)})
        else:
            fitting.append(entry)
    return fitting


def size_of(amount: float, unit: int = 1) -> int:
    """Convert an amount of ``unit`` bytes each to bytes; 0 if it is negative or not finite."""
    if not math.isfinite(amount) or amount <= 0:
        return 0
    product = min(amount * unit, 2.0 * MAX_BIGINT)  # two finite numbers may have an infinite one
    return min(round(product), MAX_BIGINT)

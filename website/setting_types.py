"""Describe the types and defaults of settings in words."""

from typing import Any, Final

from msgspec import NODEFAULT, inspect

NAMES: Final[dict[type[inspect.Type], str]] = {
    inspect.StrType: "text",
    inspect.IntType: "whole number",
    inspect.FloatType: "number",
    inspect.BoolType: "boolean",
    inspect.DateType: "date",
    inspect.DateTimeType: "date and time",
    inspect.DictType: "table",
    inspect.StructType: "table",
}


def described(kind: inspect.Type) -> str:
    """Return a type and its limits in words, for a cell of a table."""
    match kind:
        case inspect.Metadata(type=inner):
            return described(inner)
        case inspect.UnionType(types=types):
            given = [choice for choice in types if not isinstance(choice, inspect.NoneType)]
            return " or ".join(map(described, given))
        case inspect.LiteralType(values=values):
            return ", ".join(f"`{value}`" for value in values)
        case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item):
            return f"list of {described(item)}"
        case inspect.DictType(key_type=inspect.LiteralType() as key, value_type=value):
            return f"table of {described(key)}, each {described(value)}"
    return NAMES[type(kind)] + "".join(f", {limit}" for limit in _limits(kind))


def _limits(kind: inspect.Type) -> list[str]:
    """Return the constraints of a number or a text."""
    above, low = getattr(kind, "gt", None), getattr(kind, "ge", None)
    high = getattr(kind, "le", None)
    shortest, longest = getattr(kind, "min_length", None), getattr(kind, "max_length", None)
    limits = []
    if above is not None:
        limits.append(f"above {number(above)}")
    if low is not None and high is not None:
        limits.append(f"{number(low)} to {number(high)}")
    elif low is not None:
        limits.append(f"at least {number(low)}")
    elif high is not None:
        limits.append(f"at most {number(high)}")
    if shortest or longest:
        limits.append(f"{shortest or 0} to {longest} characters" if longest else "not empty")
    if pattern := getattr(kind, "pattern", None):
        limits.append(f"`{pattern}`")
    return limits


def number(value: float) -> str:
    """Return a number without a needless fraction, with commas between thousands."""
    return f"{int(value):,}" if float(value).is_integer() else f"{value}"


def default(field: inspect.Field) -> str:
    """Return the default of a setting, for a cell of a table."""
    if field.required:
        return "required"
    value: Any = field.default if field.default is not NODEFAULT else field.default_factory()
    return _value(value)


def _value(value: object) -> str:
    match value:
        case None | "":
            return "none"
        case bool():
            return f"`{str(value).lower()}`"
        case int() | float():
            return number(value)
        case str():
            return f"`{value}`"
        case list() | tuple():
            inner = ", ".join(f'"{item}"' for item in value)
            return f"`[{inner}]`"
    raise TypeError(f"{value!r} has no form in a table")

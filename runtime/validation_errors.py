"""Parse msgspec's validation errors into field and rule."""

import re
from typing import Final

import msgspec

_NAMED: Final = re.compile(r"(?:missing required|unknown) field `([^`]+)`")


def place_and_rule(error: msgspec.ValidationError) -> tuple[str | None, str]:
    """Return the invalid field, such as ``ids[1]``, and the rule that it breaks.

    The field is None if the whole document is invalid.

    ``Expected `int`, got `str` - at `$.year``` is ``year`` and ``Expected `int`, got `str```.
    """
    said = str(error)
    rule, _, place = said.removesuffix("`").rpartition(" - at `")
    rule, path = (
        (rule, place.removeprefix("key in ").removeprefix("key` in `")) if rule else (said, "$")
    )
    named = _NAMED.search(rule)
    parts = [path.lstrip("$."), named[1] if named else ""]
    return ".".join(part for part in parts if part) or None, rule

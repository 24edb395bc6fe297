"""Moments in time as people write them: ``10m`` ago, or a date."""

import datetime
import re
from typing import Final

AGO: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def moment_from(text: str) -> datetime.datetime:
    """Return the moment that a text names, in UTC.

    ``90s``, ``10m``, ``1h``, ``2d`` and ``1w`` count back from now. Anything else is a date, or a
    date and a time, in ISO 8601; without an offset it is local time.

    Raises:
        ValueError: The text is neither.
    """
    try:
        if ago := AGO.fullmatch(text):
            seconds = float(ago[1]) * SECONDS[ago[2]]
            return datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)
        return datetime.datetime.fromisoformat(text).astimezone(datetime.UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"invalid time {text!r}: use 90s, 10m, 1h, 2d, 2026-11-22 or 2026-11-22T10:00"
        ) from error

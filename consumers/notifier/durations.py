"""Parse the times in the settings of a target: ``10m``, ``20/h``, ``22:00-07:00``. Pure."""

import dataclasses
import datetime
import re
from typing import Final

UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
"""Seconds in each unit."""

DAY: Final = datetime.timedelta(days=1)
_DURATION: Final = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)([smhd])")
_TIME: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_RATE: Final = re.compile(r"(\d{1,6})/([smhd])")


def duration(text: str) -> datetime.timedelta:
    """Parse a duration such as ``90s``, ``10m``, ``2h`` or ``3d``. Raises ValueError."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a duration: use, for example, 90s, 10m, 2h or 3d")
    return datetime.timedelta(seconds=float(found[1]) * UNITS[found[2]])


def time_of_day(text: str) -> datetime.time:
    """Parse a time of day such as ``08:00``. Raises ValueError."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a time of day: use, for example, 08:00")
    return datetime.time(int(found[1]), int(found[2]))


@dataclasses.dataclass(frozen=True)
class Rate:
    """At most ``count`` messages in any ``per``."""

    count: int
    per: datetime.timedelta


def rate(text: str) -> Rate:
    """Parse a rate such as ``20/h``. Raises ValueError."""
    found = _RATE.fullmatch(text)
    if found is None or not int(found[1]):
        raise ValueError(f"{text!r} is not a rate: use, for example, 20/h or 5/m")
    return Rate(int(found[1]), datetime.timedelta(seconds=UNITS[found[2]]))


@dataclasses.dataclass(frozen=True)
class Hours:
    """A part of each day in local time. It may pass midnight."""

    start: datetime.time
    end: datetime.time

    def end_after(self, moment: datetime.datetime) -> datetime.datetime | None:
        """Return when the hours that hold ``moment`` end; None if it is outside them."""
        local = moment.astimezone()
        for day in (local.date() - DAY, local.date()):
            start = _at(day, self.start)
            end = _at(day if self.end > self.start else day + DAY, self.end)
            if start <= local < end:
                return end
        return None


def hours(text: str) -> Hours:
    """Parse hours such as ``22:00-07:00``. Raises ValueError."""
    first, separator, last = text.partition("-")
    if not separator:
        raise ValueError(f"{text!r} are not hours: use, for example, 22:00-07:00")
    start, end = time_of_day(first.strip()), time_of_day(last.strip())
    if start == end:
        raise ValueError(f"{text!r} begin and end at the same time")
    return Hours(start, end)


def next_time(moment: datetime.datetime, clock: datetime.time) -> datetime.datetime:
    """Return the first time after ``moment`` at which local clocks show ``clock``."""
    today = moment.astimezone().date()
    first = _at(today, clock)
    return first if first > moment else _at(today + DAY, clock)


def _at(day: datetime.date, clock: datetime.time) -> datetime.datetime:
    return datetime.datetime.combine(day, clock).astimezone()

"""What a release is of, read off its name: ``Dune.2021.2160p.WEB-DL`` is the movie Dune of 2021."""

import dataclasses
from typing import Final

from guessit import guessit

from schemas.events import MediaType

LONGEST_NAME: Final = 255
"""Letters, as file systems have it: the parser takes minutes over a few thousand."""


@dataclasses.dataclass(frozen=True)
class Release:
    """A movie by its title and year, or a TV show by its title (and its first year, if named)."""

    type: MediaType
    title: str
    year: int | None


def release_of(name: str) -> Release | None:
    """What the name says beyond doubt; None where it names neither a year nor a season."""
    if len(name) > LONGEST_NAME:
        return None
    parts = guessit(name)
    title, year = parts.get("title"), parts.get("year")
    if not isinstance(title, str) or not title.strip():
        return None
    known_year = year if isinstance(year, int) else None
    if parts.get("type") == "episode" and parts.get("season") is not None:
        return Release("tv_show", title, known_year)
    if parts.get("type") == "movie" and known_year is not None:
        return Release("movie", title, known_year)
    return None

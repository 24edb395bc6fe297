"""Parse release names: ``Dune.2021.2160p.WEB-DL`` is a release of the movie Dune (2021)."""

import dataclasses
import logging
from typing import Final

from guessit import guessit

from mediabus.schemas.events import MediaType

log: Final = logging.getLogger("mediabus.monitor")

MAX_NAME: Final = 255
"""Characters, the limit of most file systems. A name of some thousands takes minutes to parse."""


@dataclasses.dataclass(frozen=True)
class Release:
    """A movie by its title and year, or a TV show by its title (and its first year, if named)."""

    type: MediaType
    title: str
    year: int | None


def release_of(name: str) -> Release | None:
    """Parse a release name; None if it has neither a year nor a season."""
    if len(name) > MAX_NAME:
        return None
    try:
        parts = guessit(name)
    except Exception:
        log.exception("parsing release name failed", extra={"title": name})
        return None
    title, year = parts.get("title"), parts.get("year")
    if not isinstance(title, str) or not title.strip():
        return None
    known_year = year if isinstance(year, int) else None
    if parts.get("type") == "episode" and parts.get("season") is not None:
        return Release("tv_show", title, known_year)
    if parts.get("type") == "movie" and known_year is not None:
        return Release("movie", title, known_year)
    return None

"""Parsing of release names."""

import time

import pytest

from mediabus.service.monitor.follow.release import Release, release_of


@pytest.mark.parametrize(
    ("name", "release"),
    [
        ("Arrival.2016.2160p.UHD.BluRay.x265-GRP", Release("movie", "Arrival", 2016)),
        ("Blade.Runner.2049.2017.BluRay", Release("movie", "Blade Runner 2049", 2017)),
        ("2012.2009.1080p", Release("movie", "2012", 2009)),
        ("Severance.S02E03.1080p.WEB.h264-GRP", Release("tv_show", "Severance", None)),
        ("Dark Season 1 1080p", Release("tv_show", "Dark", None)),
        ("Arrival", None),
        ("payload.bin", None),
        ("", None),
        ("....", None),
        ("2012", None),
    ],
)
def test_name_with_year_is_a_movie_and_with_season_a_show(
    name: str, release: Release | None
) -> None:
    assert release_of(name) == release


def test_overlong_name_is_not_parsed() -> None:
    """The name in a magnet link may have thousands of characters."""
    begun = time.monotonic()
    assert release_of("Arrival.2016." * 200) is None
    assert time.monotonic() - begun < 2

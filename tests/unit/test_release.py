"""What a release is of, read off its name."""

import time

import pytest

from service.monitor.release import Release, release_of


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
def test_a_name_says_a_movie_by_its_year_or_a_show_by_its_season(
    name: str, release: Release | None
) -> None:
    assert release_of(name) == release


def test_what_is_too_long_for_a_name_takes_no_time() -> None:
    """A magnet link's own name may have thousands of letters, until its metadata are there."""
    begun = time.monotonic()
    assert release_of("Arrival.2016." * 200) is None
    assert time.monotonic() - begun < 2

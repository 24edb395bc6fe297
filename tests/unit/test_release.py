"""What a release is of, read off its name."""

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

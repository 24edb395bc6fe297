"""What a line about an event says to people."""

import pytest

from mediabus.commands.output import summary_of


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        ({"title": "Dune"}, "Dune"),
        ({"title": "Dune", "error_message": "no space"}, "Dune: no space"),
        ({"title": "Dune", "warning": "no file is wanted"}, "Dune: no file is wanted"),
        ({"title": "Dune", "warning": 7, "error_message": None}, "Dune"),
        ({}, "download 7"),
        ([], "download 7"),
    ],
)
def test_a_line_shows_the_title_and_what_went_wrong(data: object, shown: str) -> None:
    assert summary_of(data, "download", "7") == shown

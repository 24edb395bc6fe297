"""What `mediabus backup` and `mediabus restore` print while they copy."""

import pytest

from mediabus.backup.progress import Progress


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_line_appears_every_two_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    progress = Progress(clock)
    progress.heading("stream EVENTS")
    progress.begin("EVENTS", 10_000_000)
    for _ in range(8):
        clock.now += 0.5
        progress.add(1_000_000)
    assert capsys.readouterr().err.splitlines() == [
        "stream EVENTS …",
        "  EVENTS: 4.0 of 10.0 MB (40 %)",
        "  EVENTS: 8.0 of 10.0 MB (80 %)",
    ]


def test_unknown_total_is_left_out_and_parts_begin_at_zero(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    progress = Progress(clock)
    progress.begin("media_items")
    progress.add(7_000_000)
    progress.begin("downloads")
    clock.now += 2
    progress.add(500_000)
    assert capsys.readouterr().err == "  downloads: 0.5 MB\n"

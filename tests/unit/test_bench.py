"""What the benchmarks make of the figures that they measured."""

import json
from typing import Literal
from xml.etree import ElementTree as ET

import pytest

from bench.aims import AIMS, Aim
from bench.chart import bars
from bench.guard import RATIO, RECORDED, holds
from bench.report import Section, aim_rows, as_markdown

TWICE = Aim("stream to row", "mine / theirs", "mine", "at least", 2, against="theirs")


@pytest.fixture
def section() -> Section:
    """Three runs; the machine was slow in the first and fast in the last."""
    found = Section("stream to row")
    for mine, theirs in ((100, 50), (300, 60), (1000, 250)):
        found.add("mine", "events/s", mine)
        found.add("theirs", "events/s", theirs)
    return found


def test_a_ratio_is_the_median_of_the_ratios_within_each_run(section: Section) -> None:
    assert section.reached(TWICE) == 4  # not 5, the ratio of the medians


def test_an_unmeasured_aim_is_not_reached(section: Section) -> None:
    rows = {text: (reached, verdict) for text, _, reached, verdict in aim_rows(section)}
    assert rows["… / FastStream"] == ("not measured", "")


@pytest.mark.parametrize(
    ("relation", "reached", "met"),
    [("at least", 2.0, True), ("at least", 1.9, False), ("at most", 2.1, False)],
)
def test_an_aim_is_met_or_missed(
    relation: Literal["at least", "at most"], reached: float, met: bool
) -> None:
    aim = Aim("s", "t", "mine", relation, 2)
    assert aim.is_met_by(reached) is met


def test_the_guard_allows_for_noise_and_not_for_more() -> None:
    assert holds(3.0, 5.0)
    assert not holds(2.9, 5.0)


def test_a_ratio_is_recorded_for_the_guard() -> None:
    assert json.loads(RECORDED.read_text())[RATIO] > 1


def test_the_chart_is_sound_and_shows_every_rate(section: Section) -> None:
    section.add("a <tag> & more", "events/s", 10)
    section.add("a latency", "ms", 5)
    texts = [element.text for element in ET.fromstring(bars(section, "events/s", "theirs")).iter()]
    assert [text for text in texts if text in {"mine", "theirs", "a <tag> & more"}] == [
        "mine",
        "theirs",
        "a <tag> & more",
    ]
    assert "a latency" not in texts


def test_the_page_has_the_figures_and_the_aims(section: Section) -> None:
    page = as_markdown({"when": "today"}, [section])
    assert "| mine | 300.0 | 100.0 to 1,000 | events/s |" in page
    assert "| one persister / the ceiling | ≥ 0.9 x | not measured |  |" in page


def test_no_two_aims_ask_for_the_same() -> None:
    asked = [(aim.section, aim.figure, aim.against) for aim in AIMS]
    assert len(asked) == len(set(asked))

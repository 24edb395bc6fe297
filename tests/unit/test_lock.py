"""requirements.lock pins everything that pyproject.toml asks for, by name and version alone."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINES = (ROOT / "requirements.lock").read_text().splitlines()
LOCKED = {
    canonicalize_name(name): version for name, _, version in (x.partition("==") for x in LINES)
}


def test_a_line_is_a_name_and_a_version() -> None:
    assert [x for x in LINES if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", x)] == []


def test_the_lines_are_sorted_and_each_name_is_there_once() -> None:
    assert sorted(LINES, key=str.upper) == LINES
    assert len(LOCKED) == len(LINES)


def test_every_dependency_is_locked_at_a_version_that_it_allows() -> None:
    extras = PROJECT["optional-dependencies"].values()
    asked = [Requirement(text) for group in (PROJECT["dependencies"], *extras) for text in group]
    assert len(asked) > 20
    wrong = [
        str(one)
        for one in asked
        if (version := LOCKED.get(canonicalize_name(one.name))) is None
        or not one.specifier.contains(version, prereleases=True)
    ]
    assert wrong == []

"""The lock files pin all that pyproject.toml asks for, by version and hashes, and name no index."""

import re
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = sorted((ROOT / "locks").glob("*.txt"))
PIN = re.compile(r"^(?P<name>[a-z0-9._-]+)==(?P<version>[A-Za-z0-9.!+]+)(?: ; [^\\]+)? \\$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}(?: \\)?$")


class Pin(NamedTuple):
    version: str
    hashes: int


def pins(lock: Path) -> dict[str, Pin]:
    """Return each pinned package of a lock file, by its normalized name."""
    found: dict[str, Pin] = {}
    name = ""
    for line in lock.read_text().splitlines():
        if match := PIN.match(line):
            name = canonicalize_name(match["name"])
            found[name] = Pin(match["version"], 0)
        else:
            assert HASH.match(line), f"{lock.name}: {line}"
            found[name] = Pin(found[name].version, found[name].hashes + 1)
    return found


def unmet(requirements: list[str], lock: str) -> list[str]:
    """Return the requirements that a lock file does not pin at a version they allow."""
    locked = pins(ROOT / "locks" / lock)
    return [
        text
        for text in requirements
        if (one := Requirement(text))
        and (
            canonicalize_name(one.name) not in locked
            or not one.specifier.contains(
                locked[canonicalize_name(one.name)].version, prereleases=True
            )
        )
    ]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_pin_has_a_version_and_hashes_and_nothing_else(lock: Path) -> None:
    locked = pins(lock)
    assert locked
    assert [name for name, pin in locked.items() if pin.hashes == 0] == []


def test_every_dependency_is_pinned_at_a_version_that_it_allows() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    needed = PROJECT["project"]["dependencies"] + extras["notify"] + extras["mqtt"] + extras["otel"]
    at_home = needed + extras["embedded"]
    assert len(at_home) >= 15
    assert unmet(needed, "run.txt") == []
    assert unmet(at_home, "home.txt") == []
    assert unmet(at_home + extras["dev"], "dev.txt") == []
    assert unmet(extras["fuzz"], "fuzz.txt") == []
    assert unmet(PROJECT["build-system"]["requires"], "build.txt") == []
    peers = (ROOT / "bench" / "peers" / "requirements.in").read_text().splitlines()
    assert unmet(peers, "peers.txt") == []
    libraries = (ROOT / "bench" / "peers" / "pull.in").read_text().splitlines()
    assert unmet(libraries, "pull.txt") == []


def test_lock_files_agree_on_versions() -> None:
    developed = pins(ROOT / "locks" / "dev.txt")
    for lock in ("run.txt", "home.txt", "build.txt"):
        for name, pin in pins(ROOT / "locks" / lock).items():
            assert developed.get(name, pin) == pin, f"{name} in {lock}"

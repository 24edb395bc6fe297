"""The package as it is installed: one import name, the same bytes at each build, and it runs."""

import asyncio
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import ROOT, environment
from tests.support.eventually import eventually

FACTS = """
import importlib.metadata, schemas, consumers, service, runtime
import mediabus
from mediabus.schemas import events
from mediabus.consumers.consume import consume
print(mediabus.__file__)
print(schemas.OWNER, consumers.OWNER, service.OWNER, runtime.OWNER)
"""
OWN_MODULES = ("schemas", "consumers", "service", "runtime")
"""Names that an application next to mediabus may use for its modules."""


def build(target: str, directory: Path, source: Path = ROOT) -> Path:
    """Build the wheel or the sdist, without a network, and return the file."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", target]
    subprocess.run(
        [*command, "--directory", str(directory)], cwd=source, check=True, capture_output=True
    )
    [built] = directory.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed; its dependencies are those of this environment."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(installed: Path, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    variables = {**environment(), "PYTHONPATH": str(installed)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_wheel_has_one_top_level_package_with_types_and_data(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"mediabus", "mediabus-0.1.0.dist-info"}
    for needed in (
        "py.typed",
        "runtime/postgres/grants.sql",
        "runtime/postgres/migrations/0001_first.sql",
    ):
        assert f"mediabus/{needed}" in names
    assert [name for name in names if "__pycache__" in name or "tests" in name] == []


@pytest.mark.parametrize("target", ["wheel", "sdist"])
def test_a_build_gives_the_same_bytes_again(target: str, tmp_path: Path) -> None:
    first = build(target, tmp_path / "first")
    again = build(target, tmp_path / "again")
    assert first.read_bytes() == again.read_bytes()


def test_the_source_distribution_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    source = build("sdist", tmp_path / "sdist")
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    [root] = (tmp_path / "source").iterdir()
    built = build("wheel", tmp_path / "wheel", root)
    assert sorted(zipfile.ZipFile(built).namelist()) == sorted(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_works_next_to_modules_of_the_same_names(installed: Path, tmp_path: Path) -> None:
    for name in OWN_MODULES:
        (tmp_path / f"{name}.py").write_text('OWNER = "the application"\n')
    (tmp_path / "facts.py").write_text(FACTS)
    done = run(installed, tmp_path, "facts.py")
    assert done.returncode == 0, done.stderr
    place, owners = done.stdout.splitlines()
    assert Path(place).is_relative_to(installed)
    assert owners == "the application " * 3 + "the application"


@pytest.fixture
def empty() -> Iterator[Path]:
    """An empty folder, where the user that PostgreSQL runs as may go."""
    with tempfile.TemporaryDirectory(prefix="mediabus-wheel-") as made:
        yield Path(made).resolve()


async def test_it_runs_in_an_empty_folder(installed: Path, empty: Path) -> None:
    variables = {**environment(), "PYTHONPATH": str(installed), "MEDIABUS_HTTP_PORT": "0"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mediabus.main", "up"),
        cwd=empty,
        env=variables,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = asyncio.create_task(process.communicate())

    async def answers() -> bool:
        command = ("-m", "mediabus.main", "history")
        done = await asyncio.to_thread(run, installed, empty, *command)
        return done.returncode == 0

    try:
        await eventually(answers, within=60)
        assert await asyncio.to_thread(os.listdir, empty) == ["mediabus-data"]
    finally:
        process.terminate()
        await asyncio.wait_for(output, 30)
    assert process.returncode == 0

"""A client is one file or folder, and one name: all the rest neither needs it nor knows it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from mediabus.service.clients import AnyClientSettings
from mediabus.service.clients.sessions import KINDS

ROOT = Path(__file__).parents[2]
ROOMS = ("mediabus", "schemas", "service", "consumers", "runtime")

ALL_THE_REST = """
import importlib, pkgutil
from pathlib import Path
from mediabus.service.clients.sessions import client_settings
from mediabus.runtime.settings import SettingsError
from mediabus.runtime.settings_file import load

package = importlib.import_module("mediabus")
assert Path(package.__file__).is_relative_to(Path.cwd()), package.__file__
for module in pkgutil.walk_packages(package.__path__, "mediabus."):
    importlib.import_module(module.name)
[other] = client_settings(load("other.toml", {}))
print(other.name)
try:
    client_settings(load("missing.toml", {}))
except SettingsError as error:
    print(error)
"""
"""Run next to a copy of the packages: imports all of it, and loads two files of settings."""


@pytest.mark.parametrize("kind", KINDS)
def test_everything_works_without_one_of_the_clients(kind: str, tmp_path: Path) -> None:
    for room in ROOMS:
        shutil.copytree(
            ROOT / room, tmp_path / room, symlinks=True, ignore=shutil.ignore_patterns("*.pyc.*")
        )
    take_out(kind, tmp_path / "service" / "clients")
    another = "qbittorrent" if kind == "transmission" else "transmission"
    for file, named in (("other", another), ("missing", kind)):
        text = f'[[clients]]\nname = "home"\nkind = "{named}"\nurl = "http://127.0.0.1"\n'
        (tmp_path / f"{file}.toml").write_text(text, encoding="utf-8")

    command = [sys.executable, "-W", "error", "-c", ALL_THE_REST]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr
    loaded, refusal = ran.stdout.splitlines()
    assert loaded == "home"
    there_are = ", ".join(it for it in KINDS if it != kind)
    assert refusal.endswith(f"clients[0].kind: there is no kind '{kind}': it takes {there_are}")
    assert mentions(kind, tmp_path) == []


def take_out(kind: str, clients: Path) -> None:
    """Remove the one file or folder of a kind, and its one name: imported, and in the union."""
    file, folder = clients / f"{kind}.py", clients / kind
    assert file.exists() is not folder.exists()
    shutil.rmtree(folder) if folder.exists() else file.unlink()
    (name,) = [
        it.__name__ for it in get_args(AnyClientSettings) if it.__struct_config__.tag == kind
    ]
    registry = clients / "__init__.py"
    text = registry.read_text(encoding="utf-8")
    text = text.replace(f"from mediabus.service.clients.{kind} import {name}\n", "")
    text = text.replace(f"    | {name}\n", "").replace(f"    {name}\n    | ", "    ")
    assert name not in text
    registry.write_text(text, encoding="utf-8")


def mentions(kind: str, directory: Path) -> list[str]:
    """Return the lines that name a kind, as a module or in quotes.

    Examples may name one, and so may the spelling of names: an unknown kind is shown as it is.
    """
    named = re.compile(rf"\bclients(\.|\b.*\bimport\b.*\b){kind}\b|[\"']{kind}[\"']")
    return [
        f"{path.relative_to(directory)}: {line}"
        for path in directory.rglob("*.py")
        if path.name not in {"examples.py", "wording.py"}
        for line in path.read_text(encoding="utf-8").splitlines()
        if named.search(line)
    ]

"""The documents about settings and download clients match the code."""

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from mediabus.runtime.settings import NAMED_TABLES, Settings
from mediabus.runtime.settings_file import load
from mediabus.service.clients import AnyClientSettings
from mediabus.service.clients.aria2 import states as aria2
from mediabus.service.clients.deluge import states as deluge
from mediabus.service.clients.nzbget import states as nzbget
from mediabus.service.clients.qbittorrent import states as qbittorrent
from mediabus.service.clients.sabnzbd import states as sabnzbd
from mediabus.service.clients.sessions import client_settings
from mediabus.service.clients.settings import ClientSettings
from mediabus.service.clients.transmission import states as transmission

ROOT = Path(__file__).parents[2]
CLIENTS = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")

STATES: dict[tuple[str, str], dict[str, str]] = {
    ("qBittorrent", "state"): dict(qbittorrent.STATES),
    ("Transmission", "status"): dict(transmission.STATES.values()),
    ("Deluge", "state"): dict(deluge.STATES),
    ("aria2", "status"): dict(aria2.STATUSES),
    ("SABnzbd", "queue"): dict(sabnzbd.QUEUE),
    ("SABnzbd", "history"): dict(sabnzbd.HISTORY),
    ("NZBGet", "queue"): dict(nzbget.QUEUE),
    ("NZBGet", "history"): {
        word: f"failed ({reason})" if reason else "completed"
        for word, reason in nzbget.HISTORY.items()
    },
}
"""Maps each state to its phase, by section and head of the table's first column."""


def examples(document: str) -> list[str]:
    """Return the TOML blocks that configure download clients; ``…`` stands for a secret."""
    blocks = re.findall(r"^```toml\n(.*?)^```$", document, re.MULTILINE | re.DOTALL)
    return [block.replace("…", "") for block in blocks if "[[clients]]" in block]


def loaded(example: str, directory: Path) -> tuple[Settings, list[ClientSettings]]:
    path = directory / "mediabus.toml"
    path.write_text(example, encoding="utf-8")
    settings = load(str(path), {})
    return settings, list(client_settings(settings))


def table(section: str, head: str) -> dict[str, str]:
    """Return a section's table: each state of its first column with the phase in the second."""
    text = re.split(r"^## ", CLIENTS.partition(f"\n## {section}\n")[2], flags=re.MULTILINE)[0]
    rows = text.partition(f"\n| {head} | phase |")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [row.strip("| ").split(" | ") for row in rows]
    return {
        state: phase for states, phase, *_ in cells for state in re.findall(r"`([^`]+)`", states)
    }


@pytest.mark.parametrize("example", examples(CLIENTS) + examples(README))
def test_client_examples_load(example: str, tmp_path: Path) -> None:
    assert loaded(example, tmp_path)[1]


def test_every_kind_and_the_readme_have_an_example(tmp_path: Path) -> None:
    documented = {
        type(client) for text in examples(CLIENTS) for client in loaded(text, tmp_path)[1]
    }
    assert documented == set(get_args(AnyClientSettings))
    assert examples(README)


def test_operations_lists_every_setting() -> None:
    text = OPERATIONS.partition("\n## Settings\n")[2].partition("\n## ")[0]
    first_cells = "".join(re.findall(r"^\| (`.*?) \| ", text, re.MULTILINE))
    shown = re.findall(r"`([a-z_]+(?:\.[a-z_]+)?)`", first_cells)
    known = []
    for field in msgspec.structs.fields(Settings):
        default = getattr(Settings(), field.name)
        tables = isinstance(default, msgspec.Struct)
        keys = [f".{key}" for key in msgspec.structs.asdict(default)] if tables else [""]
        known += [f"{field.name}{key}" for key in keys]
    assert sorted(shown) == sorted(set(known) - set(NAMED_TABLES))


def test_documented_monitor_defaults_are_the_defaults(tmp_path: Path) -> None:
    (example,) = [text for text in examples(CLIENTS) if "[monitor]" in text]
    assert loaded(example, tmp_path)[0].monitor == Settings().monitor


@pytest.mark.parametrize(("section", "head"), STATES)
def test_documented_phases_are_those_of_the_code(section: str, head: str) -> None:
    assert table(section, head) == STATES[section, head]

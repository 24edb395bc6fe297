"""What the documents say of download clients is what the code takes and does."""

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from service.clients import AnyClientSettings, transmission
from service.clients.aria2 import states as aria2
from service.clients.deluge import states as deluge
from service.clients.nzbget import states as nzbget
from service.clients.qbittorrent import states as qbittorrent
from service.clients.sabnzbd import states as sabnzbd
from service.clients.sessions import client_settings
from service.clients.settings import ClientSettings
from service.runtime.settings import Settings, load

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
"""By the section and the head of the table's first column: what each word means."""


def examples(document: str) -> list[str]:
    """The blocks of TOML that set up download clients; ``…`` stands for a secret."""
    blocks = re.findall(r"^```toml\n(.*?)^```$", document, re.MULTILINE | re.DOTALL)
    return [block.replace("…", "") for block in blocks if "[[clients]]" in block]


def loaded(example: str, directory: Path) -> tuple[Settings, list[ClientSettings]]:
    path = directory / "mediabus.toml"
    path.write_text(example, encoding="utf-8")
    settings = load(str(path), {})
    return settings, list(client_settings(settings))


def table(section: str, head: str) -> dict[str, str]:
    """The table of a section: each word of its first column with what the second one says."""
    text = re.split(r"^## ", CLIENTS.partition(f"\n## {section}\n")[2], flags=re.MULTILINE)[0]
    rows = text.partition(f"\n| {head} | phase |")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [row.strip("| ").split(" | ") for row in rows]
    return {word: phase for words, phase, *_ in cells for word in re.findall(r"`([^`]+)`", words)}


@pytest.mark.parametrize("example", examples(CLIENTS) + examples(README))
def test_every_example_of_a_client_is_taken(example: str, tmp_path: Path) -> None:
    assert loaded(example, tmp_path)[1]


def test_there_is_an_example_of_every_kind_and_one_in_the_readme(tmp_path: Path) -> None:
    shown = {type(it) for text in examples(CLIENTS) for it in loaded(text, tmp_path)[1]}
    assert shown == set(get_args(AnyClientSettings))
    assert examples(README)


def test_the_operators_find_every_setting() -> None:
    text = OPERATIONS.partition("\n## Settings\n")[2].partition("\n## ")[0]
    first_cells = "".join(re.findall(r"^\| (`.*?) \| ", text, re.MULTILINE))
    shown = re.findall(r"`([a-z_]+(?:\.[a-z_]+)?)`", first_cells)
    known = []
    for field in msgspec.structs.fields(Settings):
        default = getattr(Settings(), field.name)
        tables = isinstance(default, msgspec.Struct)
        keys = [f".{key}" for key in msgspec.structs.asdict(default)] if tables else [""]
        known += [f"{field.name}{key}" for key in keys]
    assert sorted(shown) == sorted(set(known) - {"clients"})


def test_what_is_shown_as_a_default_is_one(tmp_path: Path) -> None:
    (example,) = [text for text in examples(CLIENTS) if "[monitor]" in text]
    assert loaded(example, tmp_path)[0].monitor == Settings().monitor


@pytest.mark.parametrize(("section", "head"), STATES)
def test_every_word_of_a_client_means_what_the_document_says(section: str, head: str) -> None:
    assert table(section, head) == STATES[section, head]

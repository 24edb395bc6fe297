"""No text of a request or of the settings leads a client out of its folders."""

from collections.abc import Callable

import msgspec
import pytest

from mediabus.schemas.operations.requests import InitiateDownload
from mediabus.service.clients import AnyClientSettings
from mediabus.service.clients.aria2 import Aria2Settings
from mediabus.service.clients.deluge import DelugeSettings
from mediabus.service.clients.nzbget import NzbGetSettings
from mediabus.service.clients.port import ClientRefused, Magnet, NzbFile, Source
from mediabus.service.clients.qbittorrent import QBittorrentSettings
from mediabus.service.clients.rtorrent import RTorrentSettings
from mediabus.service.clients.sabnzbd import SabnzbdSettings
from mediabus.service.clients.transmission import TransmissionSettings
from tests.support.ports import free_port

MAGNET = f"magnet:?xt=urn:btih:{'c9' * 20}"
NZB = b"<nzb><file><segments><segment/></segments></file></nzb>"

ESCAPING = [
    "..",
    "../x",
    "../../../x",
    "tv/../../x",
    "tv/..",
    "tv/ .. /x",
    "tv/.../x",
    "..\\x",
    "tv\\..\\x",
    "\\\\server\\share",
    "/etc",
    " /etc",
    "//server/share",
    "~/x",
    "C:\\x",
    "C:/x",
    "c:",
    "tv\nx",
    "tv\0",
    "tv\x1b[2J",
    "tv\x7f",
    "tv\x85",
    "tv\u2028x",
]
ALSO_NO_FOLDER = ["~", "~root", ".", "tv/.", "C:x", " ", "\t"]
FOLDERS = [
    "tv",
    "tv/anime",
    "TV & films (4K)",
    "..tv",
    "tv..",
    "a..b/c",
    "Ünï 日本語",
    "v1.2",
    "tv:x",
]
TITLES = [
    "Face/Off",
    "M:i:III",
    "...And Justice for All",
    "Wait...",
    "~ Ode",
    "It's 100% <b>",
    "a:b",
]

SETTINGS: dict[type[AnyClientSettings], str] = {
    Aria2Settings: "http",
    DelugeSettings: "deluge",
    NzbGetSettings: "http",
    QBittorrentSettings: "http",
    RTorrentSettings: "scgi",
    SabnzbdSettings: "http",
    TransmissionSettings: "http",
}


def refusal(**changed: str) -> str:
    request = {"title": "Dune", "magnet": MAGNET} | changed
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert(request, InitiateDownload)
    return str(refused.value)


@pytest.mark.parametrize("category", ESCAPING + ALSO_NO_FOLDER)
def test_a_category_outside_the_folder_is_refused(category: str) -> None:
    words = refusal(category=category)

    assert words.startswith("a category is a folder's name: ")
    assert words.endswith("- at `$.category`")


@pytest.mark.parametrize("title", ESCAPING)
def test_a_title_that_is_a_path_is_refused(title: str) -> None:
    assert refusal(title=title).endswith("- at `$.title`")


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_category_is_a_folder_or_one_in_another(folder: str) -> None:
    request = {"title": "Dune", "magnet": MAGNET, "category": folder}

    assert msgspec.convert(request, InitiateDownload).category == folder


@pytest.mark.parametrize("title", TITLES)
def test_a_title_is_any_text_that_is_not_a_path(title: str) -> None:
    assert msgspec.convert({"title": title, "magnet": MAGNET}, InitiateDownload).title == title


@pytest.mark.parametrize("kind", SETTINGS, ids=lambda kind: kind.__name__)
def test_a_configured_category_outside_the_folder_is_refused(
    kind: Callable[..., AnyClientSettings],
) -> None:
    url = f"{SETTINGS[kind]}://127.0.0.1:1"  # type: ignore[index]  # it is one of the types
    with pytest.raises(ValueError, match="category is a folder's name"):
        kind(name="a", url=url, category="../x")


@pytest.mark.parametrize("category", ["../x", "/x", "a\\b", "a\nb", "~"])
@pytest.mark.parametrize("kind", [it for it in SETTINGS if it is not Aria2Settings])
async def test_no_client_is_asked_to_use_such_a_category(
    kind: Callable[..., AnyClientSettings], category: str
) -> None:
    """No client listens there, so a request would fail with another error."""
    settings = kind(name="a", url=f"{SETTINGS[kind]}://127.0.0.1:{free_port()}")  # type: ignore[index]
    usenet = settings.protocol == "usenet"
    source: Source = NzbFile(NZB, "Dune") if usenet else Magnet(MAGNET)

    async with settings.connect() as client:
        with pytest.raises(ClientRefused, match="cannot use the category"):
            await client.add(source, title="Dune", category=category)

"""The documentation: its reference follows the code, its links lead somewhere, its nav is whole."""

import itertools
from pathlib import Path

import msgspec
import pytest

import mediabus
from mediabus.config.json_schema import descriptions
from mediabus.consumers.notifier.settings import TargetSettings
from mediabus.runtime.settings import Settings, WebUser
from mediabus.service.apps import configured as apps
from mediabus.service.clients import sessions as clients
from tests.support.commands import ROOT
from website import api_page, build, html, links, reference

TABLES = [
    WebUser,
    TargetSettings,
    *clients.KINDS.values(),
    *apps.KINDS.values(),
    *(
        field.type
        for field in msgspec.structs.fields(Settings)
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct)
    ),
]


@pytest.mark.parametrize("name", reference.PAGES)
def test_reference_is_what_the_code_makes(name: str) -> None:
    written = (ROOT / name).read_text(encoding="utf-8")
    assert written == reference.PAGES[name](), f"{name} is stale: run `make reference`"


@pytest.mark.parametrize("settings", TABLES, ids=lambda settings: settings.__name__)
def test_every_setting_has_a_meaning(settings: type[msgspec.Struct]) -> None:
    keys = {field.name for field in msgspec.structs.fields(settings)}
    assert keys <= descriptions(settings).keys(), "describe it in a docstring below the key"


def test_every_public_name_is_in_the_reference() -> None:
    shown = [*itertools.chain(*api_page.GROUPS.values()), *api_page.MODULES]
    assert sorted(shown) == sorted(mediabus.__all__)


def test_a_stale_page_is_found(tmp_path: Path) -> None:
    reference.write(tmp_path)
    assert not reference.stale(tmp_path)
    (tmp_path / "docs" / "reference" / "cli.md").write_text("# Command line\n")
    assert reference.stale(tmp_path) == ["docs/reference/cli.md is stale: run `make reference`"]


def test_links_of_the_pages_lead_somewhere_and_every_page_is_in_the_nav() -> None:
    assert not build.problems(ROOT)


def repository(folder: Path, page: str) -> Path:
    """Make a repository that has only pages, among them ``docs/page.md`` with this text."""
    (folder / "docs" / "images").mkdir(parents=True)
    (folder / "docs" / "images" / "now.png").touch()
    for name in links.TOP_PAGES:
        (folder / name).write_text("# Top\n\n## One *fine* `day`: a_b\n\n## Same\n\n## Same\n")
    (folder / "docs" / "page.md").write_text(page)
    return folder


def of_the_page(root: Path) -> list[str]:
    """Return what is wrong with its pages, but for the nav, which has those of this repository."""
    return [found for found in build.problems(root) if "website/zensical.toml" not in found]


@pytest.mark.parametrize(
    "text",
    [
        "[a](../README.md)",
        "[a](../README.md#one-fine-day-a_b)",
        "[a](../README.md#same-1)",
        "[a\nb](../SECURITY.md)",
        "[`a`](#here)\n\n## Here",
        '[a](#there) <a id="there"></a>',
        "![a](images/now.png)",
        "[![a](images/now.png)](../README.md)",
        "[a]\n\n[a]: ../README.md#top",
        "`[a](nowhere.md)`\n\n```md\n[b](nowhere.md)\n```",
        "<!-- [a](nowhere.md) -->",
        "- one\n  more\n- two\n\n1. one\n2. two\n\n```sh\nx\n- y\n```",
        "[a](https://example.org/x#y) [b](mailto:a@example.org)",
    ],
)
def test_a_living_link_is_no_problem(tmp_path: Path, text: str) -> None:
    assert not of_the_page(repository(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[a](nowhere.md)", "there is no such file"),
        ("[a](../../README.md)", "there is no such file"),
        ("[a](/README.md)", "there is no such file"),
        ("[a][b]\n\n[b]: nowhere.md", "there is no such file"),
        ('<a href="nowhere.md">a</a>', "there is no such file"),
        ("[![a](images/now.png)](nowhere.md)", "there is no such file"),
        ("[a](../README.md#two)", "README.md has no such heading"),
        ("[a](#same-2)", "docs/page.md has no such heading"),
        ("```sh\n## Here\n```\n\n[a](#here)", "docs/page.md has no such heading"),
        ("[a](../docs)", "this is a folder"),
        ("Three:\n- one\n- two", "'- one': put an empty line before the list"),
        ("- one\n\n  more\n- two", "'- two': put an empty line before the list"),
        ("Three:\n1. one", "'1. one': put an empty line before the list"),
        ("![a](https://example.org/a.png)", "images must be in the repository"),
        ('<img src="//example.org/a.png">', "images must be in the repository"),
    ],
)
def test_a_dead_link_is_found(tmp_path: Path, text: str, problem: str) -> None:
    (found,) = of_the_page(repository(tmp_path, text))
    assert found.startswith("docs/page.md: ")
    assert problem in found


def test_a_page_that_is_not_in_the_nav_is_found(tmp_path: Path) -> None:
    found = build.problems(repository(tmp_path, "# Page"))
    assert "docs/page.md: not in the nav of website/zensical.toml" in found
    assert "website/zensical.toml: docs/events.md: no such page" in found


def site(folder: Path, body: str) -> Path:
    """Make a site with a page that has this body, and another page."""
    (folder / "index.html").write_text(f"<html><body>{body}</body></html>")
    (folder / "docs").mkdir()
    (folder / "docs" / "web.html").write_text('<h2 id="users">Users</h2>')
    return folder


@pytest.mark.parametrize(
    "body",
    [
        '<a href="docs/web.html#users">a</a>',
        '<a href="https://example.org/">a</a>',
        '<a href=".">a</a><a href="#">top</a>',
        '<link rel="canonical" href="https://example.org/">',
        '<img src="data:image/png;base64,AA">',
    ],
)
def test_a_sound_page_is_no_problem(tmp_path: Path, body: str) -> None:
    assert not html.problems(site(tmp_path, body))


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<a href="docs/app.html">a</a>', "there is no such page"),
        ('<a href="docs/web.html#roles">a</a>', "the page has no such heading"),
        ('<link rel="stylesheet" href="https://fonts.example/a.css">', "loads https://fonts."),
        ('<link rel="preconnect" href="//fonts.example">', "loads //fonts.example"),
        ('<script src="http://example.org/a.js"></script>', "loads http://example.org/a.js"),
        ('<img src="https://example.org/a.png">', "loads https://example.org/a.png"),
        ('<img srcset="a.png 1x, https://example.org/a.png 2x">', "loads https://example.org"),
        ("<style>@import 'https://example.org/a.css'</style>", "loads https://example.org/a.css"),
        ('<p style="background: url(https://example.org/a.png)">', "loads https://example.org"),
        ('<script src="a.js"></script>', "loads a.js, which is not there"),
        ("<p>Three:\n- one</p>", "'- one' is not shown as a list"),
        ("<p>Three:\n2. two</p>", "'2. two' is not shown as a list"),
    ],
)
def test_a_dead_link_or_an_asset_from_elsewhere_is_found(
    tmp_path: Path, body: str, problem: str
) -> None:
    assert any(problem in found for found in html.problems(site(tmp_path, body)))


def test_a_font_from_elsewhere_in_a_style_sheet_is_found(tmp_path: Path) -> None:
    sheet = site(tmp_path, "") / "main.css"
    sheet.write_text("@font-face { src: url('https://fonts.example/a.woff2') }")
    assert html.problems(tmp_path) == ["main.css: loads https://fonts.example/a.woff2"]

"""Build the site: copy the pages, run Zensical, and check the result."""

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from website import html, links, lists

CONFIG: Final = Path(__file__).with_name("zensical.toml")
PAGES: Final = "pages"
SITE: Final = "site"
"""Folders in the target: the copies of the pages, and the site, as in ``zensical.toml``."""


class SiteBroken(Exception):
    """The site has dead links, or pages that are not in its navigation. A line for each."""


def problems(root: Path) -> list[str]:
    """Return what is wrong with the pages of a repository, before the build."""
    listed = set(navigation())
    known = set(links.pages(root))
    texts = {page: (root / page).read_text(encoding="utf-8") for page in sorted(known)}
    return [
        *links.problems(root),
        *(f"{page}: {found}" for page, text in texts.items() for found in lists.problems(text)),
        *(f"{page}: not in the nav of website/zensical.toml" for page in sorted(known - listed)),
        *(f"website/zensical.toml: {page}: no such page" for page in sorted(listed - known)),
    ]


def navigation() -> list[str]:
    """Return the pages of the navigation, in their order."""
    return [*_paths(tomllib.loads(CONFIG.read_text(encoding="utf-8"))["project"]["nav"])]


def _paths(nav: Any) -> Iterator[str]:  # noqa: ANN401 - any part of a TOML document
    match nav:
        case str():
            yield nav
        case list():
            for item in nav:
                yield from _paths(item)
        case dict():
            for item in nav.values():
                yield from _paths(item)


def build(root: Path, target: Path) -> Path:
    """Build the site of a repository in ``target``, and return its folder.

    Raises:
        SiteBroken: A link is dead, a page is not in the navigation, or a page loads a font, a
            script, a style or an image from elsewhere.
        CalledProcessError: Zensical failed.
    """
    _refuse(problems(root))
    for folder in (PAGES, SITE):
        shutil.rmtree(target / folder, ignore_errors=True)
    for name in (*links.pages(root), *links.local_files(root)):
        copy = target / PAGES / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, copy)
    shutil.copyfile(CONFIG, target / CONFIG.name)
    subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--clean", "--strict"], cwd=target, check=True
    )
    _refuse(html.problems(target / SITE))
    return target / SITE


def _refuse(found: list[str]) -> None:
    if found:
        raise SiteBroken("\n".join(found))

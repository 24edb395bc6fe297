"""Check the built pages: every link leads somewhere, and nothing is loaded from elsewhere.

GitHub and the site use two parsers of Markdown. Lists that only GitHub recognizes are found, too.
"""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urljoin, urlsplit

LOADING: Final = {
    ("img", "src"), ("img", "srcset"), ("script", "src"), ("source", "src"), ("source", "srcset"),
    ("video", "src"), ("video", "poster"), ("audio", "src"), ("track", "src"), ("iframe", "src"),
    ("embed", "src"), ("object", "data"), ("input", "src"), ("use", "href"), ("image", "href"),
    ("form", "action"),
}  # fmt: skip
"""The attributes whose addresses a browser loads or sends to."""

LINKED_ONLY: Final = frozenset({"canonical", "prev", "next", "alternate", "license", "author"})
"""The relations of ``<link>`` that load nothing."""

OUTSIDE: Final = re.compile(r"^\s*(?:https?:)?//", re.IGNORECASE)
CSS_ADDRESS: Final = re.compile(
    r"""(?:url\(\s*["']?|@import\s+["'])((?:https?:)?//[^"')\s]*)""", re.IGNORECASE
)
PARAGRAPH: Final = re.compile(r"<p>(.*?)</p>", re.DOTALL)
LIST_ITEM: Final = re.compile(r"^ *(?:[-*]|\d+\.) .*$", re.MULTILINE)
HERE: Final = "http://site.invalid/"
"""A base for relative addresses."""


class _Page(HTMLParser):
    """What one page has: its anchors, its links, and the addresses that it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.flat_items = [
            item for paragraph in PARAGRAPH.findall(text) for item in LIST_ITEM.findall(paragraph)
        ]
        """List items that became the text of a paragraph, which GitHub would show as a list."""
        self._in_style = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        self._in_style = tag == "style"
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and not LINKED_ONLY & set(given.get("rel", "").lower().split()):
            self.loaded.append(given.get("href", ""))
        self.loaded += [
            part.split()[0]
            for name, value in given.items()
            if (tag, name) in LOADING
            for part in (value.split(",") if name == "srcset" else [value])
            if part.strip()
        ]
        self.loaded += CSS_ADDRESS.findall(given.get("style", ""))

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.loaded += CSS_ADDRESS.findall(data)


def problems(site: Path) -> list[str]:
    """Return a line for each dead link and each address elsewhere that a page loads."""
    files = sorted(site.rglob("*.html"))
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in files}
    found = [line for path, page in pages.items() for line in _of_page(site, path, page, pages)]
    for path in sorted(site.rglob("*.css")):
        addresses = CSS_ADDRESS.findall(path.read_text(encoding="utf-8"))
        found += [f"{path.relative_to(site)}: loads {address}" for address in addresses]
    return found


def _of_page(site: Path, path: Path, page: _Page, pages: dict[Path, _Page]) -> Iterator[str]:
    name = path.relative_to(site).as_posix()
    for item in page.flat_items:
        yield f"{name}: {item[:60]!r} is not shown as a list: indent by four spaces"
    for address in page.loaded:
        if OUTSIDE.match(address):
            yield f"{name}: loads {address}"
        elif _file(site, name, address) is None:
            yield f"{name}: loads {address}, which is not there"
    for link in page.links:
        parts = urlsplit(urljoin(HERE + name, link))
        if f"{parts.scheme}://{parts.netloc}/" != HERE:
            continue
        file = _file(site, name, link)
        if file is None:
            yield f"{name}: {link}: there is no such page"
        elif parts.fragment and file in pages and unquote(parts.fragment) not in pages[file].ids:
            yield f"{name}: {link}: the page has no such heading"


def _file(site: Path, name: str, address: str) -> Path | None:
    """Return the file of the site that an address leads to, if it exists."""
    if address.startswith("data:"):
        return site
    path = site / unquote(urlsplit(urljoin(HERE + name, address)).path).lstrip("/")
    path = path / "index.html" if path.is_dir() else path
    return path if path.is_file() else None

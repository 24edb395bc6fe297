"""Check the links of the Markdown sources, by the rules of GitHub."""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote

TOP_PAGES: Final = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
"""The pages of the site that are not in docs/."""

BLOCK: Final = re.compile(r"^( *)(```+|~~~+).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
INLINE_CODE: Final = re.compile(r"``[^\n]*?``|`[^`]*`")
COMMENT: Final = re.compile(r"<!--.*?-->", re.DOTALL)
HEADING: Final = re.compile(r"^#{1,6} +(.*?)(?: +#+)?$", re.MULTILINE)
LINK: Final = re.compile(r"(!?)\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(\s*<?([^\s()<>]*(?:\([^\s()]*\))?)")
DEFINITION: Final = re.compile(r"^ {0,3}\[[^\]]+\]: +(\S+)", re.MULTILINE)
ATTRIBUTE: Final = re.compile(r"""<(\w+)[^>]*?\b(href|src)=["']([^"']*)["']""")
ANCHOR: Final = re.compile(r"""\b(?:id|name)=["']([^"']+)["']""")
ELSEWHERE: Final = re.compile(r"^(?:[a-z][a-z0-9+.-]*:|//)", re.IGNORECASE)


class Link(NamedTuple):
    """A link or an image of a page."""

    target: str
    is_image: bool


def pages(root: Path) -> list[str]:
    """Return the paths of all pages, relative to the repository."""
    found = (path.relative_to(root).as_posix() for path in (root / "docs").rglob("*.md"))
    return [*TOP_PAGES, *sorted(found)]


def links(text: str) -> Iterator[Link]:
    """Yield the links and images of a page, but not those in code."""
    prose = _without_code(text)
    for mark, target in LINK.findall(prose):
        yield Link(target, mark == "!")
    for target in DEFINITION.findall(prose):
        yield Link(target, is_image=False)
    for tag, _, target in ATTRIBUTE.findall(prose):
        yield Link(target, tag.lower() == "img")


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub makes for a page."""
    prose = COMMENT.sub("", BLOCK.sub("", text))
    found = set(ANCHOR.findall(INLINE_CODE.sub("", prose)))
    for heading in HEADING.findall(prose):
        name, number = slug(heading), 0
        while (unique := f"{name}-{number}" if number else name) in found:
            number += 1
        found.add(unique)
    return found


def slug(heading: str) -> str:
    """Return the anchor of a heading: lower case, without punctuation, ``-`` for each space."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    text = re.sub(r"<[^>]*>", "", text)
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def _without_code(text: str) -> str:
    return COMMENT.sub("", INLINE_CODE.sub("", BLOCK.sub("", text)))


def local_files(root: Path) -> set[str]:
    """Return the files of the repository, other than pages, that pages link to."""
    known = set(pages(root))
    found = set()
    for page in known:
        for link in links((root / page).read_text(encoding="utf-8")):
            path = _path(page, link.target)
            if path and path not in known and (root / path).is_file():
                found.add(path)
    return found


def problems(root: Path) -> list[str]:
    """Return a line for each dead link and dead anchor, and each image from elsewhere."""
    texts = {page: (root / page).read_text(encoding="utf-8") for page in pages(root)}
    return [
        f"{page}: {link.target}: {problem}"
        for page, text in texts.items()
        for link in links(text)
        if (problem := _problem(root, page, link, texts))
    ]


def _path(page: str, target: str) -> str | None:
    """Return the path in the repository that a link leads to; None for other addresses."""
    if ELSEWHERE.match(target):
        return None
    file = unquote(target.partition("#")[0])
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), file)) if file else page


def _problem(root: Path, page: str, link: Link, texts: dict[str, str]) -> str | None:
    path = _path(page, link.target)
    if path is None:
        return "images must be in the repository" if link.is_image else None
    if path.startswith(("/", "../")) or not (root / path).exists():
        return "there is no such file"
    if (root / path).is_dir():
        return "this is a folder: link to a file in it"
    anchor = unquote(link.target.partition("#")[2])
    if anchor and path.endswith(".md"):
        text = texts.get(path) or (root / path).read_text(encoding="utf-8")
        if anchor not in anchors(text):
            return f"{path} has no such heading"
    return None

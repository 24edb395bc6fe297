"""Prose uses plain technical English: the worst turns do not come back."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
FOLDERS: Final = (
    *("mediabus", "schemas", "service", "consumers", "runtime"),
    *("tests", "bench", "chaos", "website"),
)

INSTEAD: Final = {
    r"for ever": "until cancelled, without limit",
    r"anew": "again",
    r"told": "emitted, reported, distinguished",
    r"tells? (of|nothing|whether)": "reports, shows, proves",
    r"(?<!here )(is|are) none": "is not a …",
    r"(?<!here )is no (?!longer|more)": "is not a …",
    r"[Ss]ays (why|so)": "has the reason, reports this",
    r"[Nn]obody( settles)?": "no process, no user; unacknowledged",
    r"[Ss]omebody": "a user, another process",
    r"[Ww]hatever": "any, regardless of, even if",
    r"fault of ours": "an internal error",
    r"settles?": "acknowledge, become stable",
    r"in vain": "without an answer, without success",
    r"of one's own": "of your own, its own",
    r"makes? up for": "compensates",
    r"lets? go": "releases, removes",
    r"[Bb]eside": "next to, while … runs",
    r"[Ss]trangers?": "untracked download",
    r"[Ww]hoever": "the process, user or client that",
    r"[Bb]ur(y|ies|ied)": "dead-letter",
    r"is nobody's": "has no owner, names no actor",
}
"""The turns, as regular expressions for whole words, and what to write in their place."""

TURNS: Final = re.compile(rf"\b({'|'.join(INSTEAD)})(?:\b|(?<= ))")

CODE: Final = re.compile(r"^ *```.*?^ *```|``.*?``|`[^`\n]*`", re.MULTILINE | re.DOTALL)
"""Code in Markdown and docstrings, which is not prose."""

PROSE: Final = re.compile(r'""".*?"""|#.*?$', re.MULTILINE | re.DOTALL)
"""The docstrings and comments of a module, and what looks like them: good enough to count."""


def turns_in(path: Path) -> list[str]:
    """Return the turns in a file, code and quoted names left out."""
    source = path.read_text(encoding="utf-8")
    prose = "\n".join(PROSE.findall(source)) if path.suffix == ".py" else source
    return [found.group() for found in TURNS.finditer(" ".join(CODE.sub("", prose).split()))]


def documents() -> Iterator[Path]:
    """Yield each file that has prose."""
    yield from (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"))
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            if "node_modules" not in path.parts and path != Path(__file__):
                yield path


def test_prose_has_no_odd_turns() -> None:
    found = {str(path.relative_to(ROOT)): turns_in(path) for path in documents()}
    found = {path: turns for path, turns in found.items() if turns}
    assert not found, f"{found}: write plain English instead, such as: {INSTEAD}"


def test_turns_are_found_across_lines_and_not_in_code(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("It waits for\never, and `nobody` is no\nlonger here.", encoding="utf-8")
    assert turns_in(page) == ["for ever"]


def test_docstrings_and_comments_are_prose_and_strings_are_not() -> None:
    source = '"""Waits."""\nx = "for ever"  # begins anew\n'
    assert PROSE.findall(source) == ['"""Waits."""', "# begins anew"]

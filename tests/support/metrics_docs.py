"""The metrics: as docs/metrics.md lists them, and as a process exposes them."""

import re
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

ROOT: Final = Path(__file__).parents[2]
ROW: Final = re.compile(
    r"^\| `(mediabus_\w+)` \| (\w+) \|(?: (.*?))? \| (.+?) \| .+ \|$", re.MULTILINE
)
SUFFIXES: Final = ("_total", "_bucket", "_sum", "_count")


class Documented(NamedTuple):
    """A row of docs/metrics.md."""

    type: str
    labels: frozenset[str]
    unit: str


def documented() -> dict[str, Documented]:
    """Return the rows of docs/metrics.md by name."""
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    return {
        name: Documented(kind, frozenset(re.findall(r"`(\w+)`", labels)), unit)
        for name, kind, labels, unit in ROW.findall(text)
    }


class Scraped:
    """What one process exposes."""

    def __init__(self, text: str) -> None:
        families = [
            family
            for family in text_string_to_metric_families(text)
            if family.name.startswith("mediabus_")
        ]
        self.types = {
            family.name + ("_total" if family.type == "counter" else ""): family.type
            for family in families
        }
        self.samples = [sample for family in families for sample in family.samples]

    def value(self, name: str, **labels: str) -> float | None:
        """Return the value of a series; None if it is absent."""
        found = [
            sample.value
            for sample in self.samples
            if sample.name == name and sample.labels == labels
        ]
        return found[0] if found else None

    def has(self, name: str, **labels: str) -> bool:
        """Return whether there is a series of this name with these labels, and maybe others."""
        return any(
            sample.name == name and labels.items() <= sample.labels.items()
            for sample in self.samples
        )

    def labels_of(self, name: str) -> frozenset[str] | None:
        """Return the names of the labels of a metric; None without a series."""
        names = {name, *(f"{name}{suffix}" for suffix in SUFFIXES)}
        found = {frozenset(one.labels) - {"le"} for one in self.samples if one.name in names}
        assert len(found) <= 1, f"{name} has series with different labels: {found}"
        return next(iter(found), None)


async def scrape(port: int) -> Scraped:
    """Return what the process on a port of this machine exposes."""
    url = f"http://127.0.0.1:{port}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert answer.status == 200, await answer.text()
        return Scraped(await answer.text())

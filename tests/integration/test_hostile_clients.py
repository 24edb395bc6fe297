"""Hostile answers of download clients.

A call of an adapter ends in time, within its memory limit, and raises only what the port declares.
"""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mediabus.service.clients.deluge import DelugeSettings
from mediabus.service.clients.guard import guarded
from mediabus.service.clients.port import ClientRefused, ClientUnavailable, Delta, Snapshot
from mediabus.service.clients.rtorrent import RTorrentSettings
from mediabus.service.clients.sessions import KINDS
from mediabus.service.clients.settings import ClientSettings
from tests.support.daemons import HOST
from tests.support.hostile import (
    OVER_DELUGE,
    OVER_HTTP,
    OVER_SCGI,
    Say,
    hostile,
    own_certificate,
)

TIMEOUT = 1.5
FLAT = 450 * 1024
"""Kilobytes that an answer may cost while it is read: some multiples of the largest one allowed."""

HTTP_KINDS = [kind for kind in KINDS if kind != "deluge"]
CONTENT = ("deep lists later", "many values", "a huge number", "a huge fault", "null", "nothing")
"""What each adapter reads by itself; the rest is up to the edge that they share."""

EACH = [
    (kind, what) for kind in HTTP_KINDS for what in OVER_HTTP if kind == "nzbget" or what in CONTENT
]


@pytest.fixture(autouse=True)
def _memory_stays_flat() -> Iterator[None]:
    before = _kilobytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    yield
    assert _kilobytes("VmHWM") - before < FLAT


def _kilobytes(name: str) -> int:
    found = re.search(rf"{name}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])


async def must_bear(settings: ClientSettings) -> None:
    """Every call of the port has an outcome of the port, in time."""
    async with guarded(settings) as client:
        for _ in range(2):
            started = time.monotonic()
            words = ""
            try:
                assert isinstance(await client.observe(), Snapshot | Delta)
                assert len(await client.version()) <= 100
            except (ClientUnavailable, ClientRefused) as error:
                words = str(error)
            assert len(words) <= 1_000
            assert time.monotonic() - started < 20 * TIMEOUT


@pytest.mark.parametrize(("kind", "what"), EACH)
async def test_an_answer_over_http_ends_within_bounds(kind: str, what: str) -> None:
    with hostile(OVER_HTTP[what]) as server:
        url = f"http://{HOST}:{server.port}"
        await must_bear(KINDS[kind](name="a", url=url, timeout=TIMEOUT))


@pytest.mark.parametrize("say", OVER_SCGI.values(), ids=list(OVER_SCGI))
async def test_an_answer_over_scgi_ends_within_bounds(say: Say) -> None:
    with hostile(say) as server:
        url = f"scgi://{HOST}:{server.port}"
        await must_bear(RTorrentSettings(name="a", url=url, timeout=TIMEOUT))


@pytest.mark.parametrize("say", OVER_DELUGE.values(), ids=list(OVER_DELUGE))
async def test_an_answer_of_deluge_ends_within_bounds(say: Say, tmp_path: Path) -> None:
    with hostile(say, own_certificate(tmp_path)) as server:
        url = f"deluge://{HOST}:{server.port}"
        await must_bear(DelugeSettings(name="a", url=url, timeout=TIMEOUT))

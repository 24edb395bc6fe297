"""The tutorials, pasted block by block into two terminals: they work and print what they say."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.support import checkout, daemons, torrents
from tests.support.commands import ROOT
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.terminal import Terminal, opened

SINTEL = "magnet:?xt=urn:btih:08ada5a7a6183aae1e09d831df6748d566095a10&dn=Sintel"
STARTS = "make run"
"""What a block for the first terminal has; it runs until Ctrl-C."""

READS = ("mediabus ", "cat messages", "timeout ")
"""How a block begins that may be pasted again until it shows what is on its way."""


@pytest.fixture
def daemon() -> Iterator[daemons.Daemon]:
    with daemons.Transmission.started() as running:
        yield running


@pytest.fixture
async def swarm(tmp_path: Path) -> AsyncIterator[torrents.Swarm]:
    async with torrents.swarm(tmp_path) as running:
        yield running


@pytest.fixture
def folder() -> Iterator[Path]:
    with checkout.made() as made:
        yield made


class Reader:
    """A reader with two terminals in a checkout."""

    def __init__(self, second: Terminal, open_first: Callable[[], Terminal]) -> None:
        self._second = second
        self._open_first = open_first
        self._first: Terminal | None = None
        self._screen = ""

    async def follow(self, block: checkout.Block) -> None:
        """Paste a block, and check that the terminal shows what the document says."""
        if STARTS in block.text:
            await asyncio.to_thread(self._start, block)
            return
        self._screen = ""
        try:
            await eventually(lambda: self._paste(block), within=60, every=0.2)
        except AssertionError as error:
            pytest.fail(f"{error}\n{block.text}\n{self._screen}\n{block.shown}")

    def _start(self, block: checkout.Block) -> None:
        self._first = self._open_first()
        self._first.begin(block.text)
        self._first.wait_for("Press Ctrl-C to stop", within=90)
        assert checkout.shows(self._first.shown, block.shown), self._first.shown

    async def _paste(self, block: checkout.Block) -> bool:
        # A busy machine may start a consumer so late that it prints the rest in its next run.
        self._screen += await asyncio.to_thread(self._second.paste, block.text)
        is_shown = checkout.shows(self._screen, block.shown)
        assert is_shown or block.text.startswith(READS), "it shows something else"
        return is_shown

    def stop(self) -> None:
        """Press Ctrl-C in the first terminal."""
        if self._first:
            self._first.interrupt()


async def follow(
    folder: Path, document: str, here: Mapping[str, str], after: Mapping[str, Callable[[], None]]
) -> None:
    """Follow a document to its end.

    ``here`` replaces what the test cannot have as written, such as a port. ``after`` is called
    after the block with this text.
    """
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    port = free_port()
    text = text.replace("127.0.0.1:8321", f"127.0.0.1:{port}")
    for written, real in here.items():
        assert written in text
        text = text.replace(written, real)
    environment = checkout.environment(port)
    with contextlib.ExitStack() as stack:
        second = stack.enter_context(opened(folder, environment))
        reader = Reader(second, lambda: stack.enter_context(opened(folder, environment)))
        for block in checkout.blocks(text):
            await reader.follow(block)
            after.get(block.text.strip(), bool)()
        reader.stop()


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_first_ten_minutes_at_home_work_as_pasted(
    folder: Path, daemon: daemons.Daemon, swarm: torrents.Swarm
) -> None:
    sintel = swarm.share("Sintel", size=200_000, rate=2_000, private=False)
    here = {
        "http://127.0.0.1:9091": daemon.url,
        'username = "transmission"': f'username = "{daemons.USERNAME}"',
        'password = "transmission"': f'password = "{daemons.PASSWORD}"',
        SINTEL: sintel.magnet,
        "mediabus.toml: no": "mediabus.toml and 1 variable: no",  # that of the port
    }
    after = {"mediabus top --once": lambda: swarm.limit(sintel, 0)}
    await follow(folder, "tutorial.md", here, after)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_first_consumer_works_as_pasted(folder: Path) -> None:
    await follow(folder, "first-consumer.md", {}, {})


def test_a_document_that_shows_something_else_is_noticed() -> None:
    (block,) = checkout.blocks(
        "```sh\nmediabus dead list\n```\n\nprints\n\n```text\n1  …  failed\n```\n"
    )
    assert checkout.shows("number kind\n1    2026  failed\n", block.shown)
    assert not checkout.shows("number kind\n2    2026  failed\n", block.shown)
    assert not checkout.shows("no dead letters", block.shown)

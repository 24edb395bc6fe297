"""A minute of fuzzing: every adapter over the wire, with recorded answers that were changed."""

from pathlib import Path

import pytest

from mediabus.service.clients.guard import guarded
from mediabus.service.clients.port import Snapshot
from mediabus.service.clients.sessions import KINDS
from tests.fuzz_clients import fuzz, serving
from tests.support.hostile import own_certificate


@pytest.mark.parametrize("kind", KINDS)
async def test_the_recorded_answers_are_understood(kind: str, tmp_path: Path) -> None:
    tls = own_certificate(tmp_path) if kind == "deluge" else None
    async with (
        serving(kind, tls) as (_, url),
        guarded(KINDS[kind](name="a", url=url, timeout=5.0)) as client,
    ):
        seen = await client.observe()
        assert isinstance(seen, Snapshot)
        assert len(seen.items) == 2
        assert await client.version()


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_keep_the_contract_for_any_answer(kind: str) -> None:
    assert fuzz(kind, 300, seconds=8.0) > 10

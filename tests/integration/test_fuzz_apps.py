"""Seconds of fuzzing: the readers of every application, and the receiver of their webhooks."""

import pytest

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.postgres.database import Pool
from mediabus.service.apps.configured import KINDS
from tests.fuzz_apps import fuzz_answers, fuzz_webhooks


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", KINDS)
async def test_no_answer_stops_the_reader_of_an_application(
    kind: str, bus: Bus, pool: Pool
) -> None:
    assert await fuzz_answers(kind, bus, pool, 200, seconds=3.0) > 5


@pytest.mark.parametrize("kind", KINDS)
async def test_every_webhook_is_answered_and_what_is_stored_is_valid(kind: str, bus: Bus) -> None:
    assert await fuzz_webhooks(kind, bus, 200, seconds=1.0) > 5

"""The notifier with its own key, on a server that `mediabus secure` has set up."""

import asyncio
from pathlib import Path

import pytest
from nats.js.api import ConsumerConfig
from nats.js.errors import APIError

from mediabus.consumers.dead_letters import DeadLetters
from mediabus.runtime.nats.bus import connect
from mediabus.runtime.nats.notifier_bucket import ensure_notifier_bucket
from mediabus.runtime.nats.streams import ensure_streams
from mediabus.runtime.settings import NatsSettings
from mediabus.service.ingest.serve import serve_keys
from tests.support.notifying import config_of, events_in, idle, notifying, publish
from tests.support.receiver import receiving, status
from tests.support.secured import secured_nats


async def test_the_notifier_delivers_with_its_own_key_and_makes_no_other_consumer(
    tmp_path: Path,
) -> None:
    with secured_nats(tmp_path, ()) as server:
        async with (
            connect(server.settings("service"), name="service", wait=10) as service,
            connect(server.settings("notify"), name="notify", wait=10) as bus,
            serve_keys(service),
            receiving() as receiver,
        ):
            await ensure_streams(service, NatsSettings())
            waiting = asyncio.create_task(ensure_notifier_bucket(bus, NatsSettings()))
            await ensure_notifier_bucket(service, NatsSettings())
            await asyncio.wait_for(waiting, 20)
            receiver.answers = [status(400, text="no")]
            target = {"name": "hook", "webhook": receiver.url, "events": ["job.*", "health.*"]}
            async with notifying(bus, config_of(target | {"digest": "0.1s"})):
                await publish(service, "refused")
                await idle(service, "hook")
                await publish(service, "a", "b")
                await idle(service, "hook")
            [letter] = await DeadLetters(service).all()
            assert (letter.consumer, letter.reason) == ("notify-hook", "HTTP 400 no")
            assert receiver.jobs == ["a", "b"]
            delivered = await events_in(service, "notification.delivered")
            assert sum(len(one.fields()["event_ids"]) for one in delivered) == 2
            with pytest.raises(APIError, match="begin with notify-"):
                await bus.js.add_consumer("EVENTS", ConsumerConfig(durable_name="other"))

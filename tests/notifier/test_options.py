"""Each option of a target, through NATS to a receiver, on a clock that the test moves."""

import datetime
import json
from typing import Any

import msgspec
import pytest

from mediabus.consumers.notifier import worker
from mediabus.consumers.notifier.settings import NotifierConfig
from mediabus.runtime.nats.bus import Bus
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import (
    DownloadClientRecovered,
    DownloadClientUnreachable,
    MediaFileImported,
)
from mediabus.schemas.identity import Actor, Resource
from tests.support.eventually import eventually
from tests.support.notifying import JOB, MovedClock, config_of, events_in, idle, notifying, publish
from tests.support.receiver import Receiver, receiving

MONITOR = Actor("system", "download_monitor")


@pytest.fixture(autouse=True)
def _watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the clock and at the stream often enough for a test that moves the clock."""
    monkeypatch.setattr(worker, "CLOCK_EVERY", 0.02)
    monkeypatch.setattr(worker, "LOOK_EVERY", 0.02)


def hook(receiver: Receiver, **options: Any) -> NotifierConfig:
    return config_of({"name": "hook", "webhook": receiver.url, **options})


def sizes(receiver: Receiver) -> list[int]:
    return [len(one.events) for one in receiver.accepted]


async def away(bus: Bus, client: str = "home") -> None:
    event = DownloadClientUnreachable(client=client, kind="aria2")
    await bus.publish(event, actor=MONITOR, resource=Resource("download_client", client))


async def back(bus: Bus, client: str = "home") -> None:
    event = DownloadClientRecovered(client=client, kind="aria2", away_seconds=60)
    await bus.publish(event, actor=MONITOR, resource=Resource("download_client", client))


async def test_a_season_pack_is_one_message(bus: Bus) -> None:
    clock = MovedClock()
    async with receiving() as receiver:
        config = hook(receiver, events=["media_file.imported"], group="media_item", digest="10m")
        async with notifying(bus, config, clock):
            for number in range(1, 25):
                event = MediaFileImported(path=f"/tv/Dark/S01E{number:02}.mkv", media_title="Dark")
                await bus.publish(event, actor=MONITOR, resource=Resource("media_item", "dark"))
            lost = MediaFileImported(path="/tv/Lost/S01E01.mkv", media_title="Lost")
            await bus.publish(lost, actor=MONITOR, resource=Resource("media_item", "lost"))
            clock.move(minutes=11)
            await idle(bus, "hook")
    assert sizes(receiver) == [24, 1]
    [first, _] = await events_in(bus, "notification.delivered")
    assert len(first.fields()["event_ids"]) == 24


async def test_fourteen_short_outages_make_no_message_and_a_long_one_makes_two(bus: Bus) -> None:
    clock = MovedClock()
    async with receiving() as receiver:
        config = hook(receiver, events=["download_client.*", "job.*"], hold="10m")
        async with notifying(bus, config, clock):
            for _ in range(14):
                await away(bus)
                await back(bus)
            await publish(bus, "other")
            await away(bus, "nas")
            await eventually(lambda: receiver.accepted)
            assert [one.events[0]["type"] for one in receiver.accepted] == ["job.executed"]
            clock.move(minutes=11)
            await eventually(lambda: len(receiver.accepted) == 2)
            await back(bus, "nas")
            await idle(bus, "hook")
    assert [one.events[0]["data"].get("client") for one in receiver.accepted] == [
        None,
        "nas",
        "nas",
    ]


async def test_a_digest_collects_what_happens_and_lists_it(bus: Bus) -> None:
    clock = MovedClock()
    async with receiving() as receiver:
        config = config_of(
            {
                "name": "hook",
                "url": receiver.url.replace("http", "json", 1),
                "digest": "10m",
                "events": ["job.*"],
            }
        )
        async with notifying(bus, config, clock):
            await publish(bus, "a", "b", "b")
            clock.move(minutes=11)
            await idle(bus, "hook")
    [message] = [json.loads(one.body) for one in receiver.accepted]
    assert message["title"] == "mediabus: 3 events"
    assert len(message["message"].splitlines()) == 2
    assert "(2 times)" in message["message"]


async def test_quiet_hours_end_in_one_message_and_errors_do_not_wait(bus: Bus) -> None:
    clock = MovedClock()
    now = clock().astimezone()
    start, end = now - datetime.timedelta(hours=1), now + datetime.timedelta(hours=2)
    async with receiving() as receiver:
        quiet = f"{start:%H:%M}-{end:%H:%M}"
        config = hook(receiver, events=["job.*"], quiet=quiet, **{"except": "error"})
        async with notifying(bus, config, clock):
            await publish(bus, "a", "b")
            await publish(bus, "broken", fails=True)
            await eventually(lambda: receiver.accepted)
            assert receiver.jobs == ["broken"]
            clock.move(hours=2.1)
            await idle(bus, "hook")
            await publish(bus, "c", "d")
            await idle(bus, "hook")
    assert receiver.jobs == ["broken", "a", "b", "c", "d"]
    assert sizes(receiver)[:2] == [1, 2]


async def test_a_holiday_ends_in_one_message(bus: Bus) -> None:
    clock = MovedClock()
    until = clock() + datetime.timedelta(days=14)
    async with receiving() as receiver:
        config = hook(receiver, events=["job.*"], quiet_until=until.isoformat())
        async with notifying(bus, config, clock):
            await publish(bus, *"abcde")
            clock.move(days=14.1)
            await idle(bus, "hook")
    assert sizes(receiver) == [5]


async def test_a_rate_delays_what_is_too_much_and_drops_nothing(bus: Bus) -> None:
    clock = MovedClock()
    async with (
        receiving() as receiver,
        notifying(bus, hook(receiver, events=["job.*"], rate="2/h"), clock),
    ):
        await publish(bus, "a")
        await eventually(lambda: receiver.jobs == ["a"])
        await publish(bus, *"bcdef")
        await eventually(lambda: len(receiver.accepted) == 2)
        await publish(bus, "g")
        clock.move(minutes=61)
        await idle(bus, "hook")
    assert receiver.jobs == list("abcdefg")
    assert len(receiver.accepted) <= 4


async def test_severity_and_where_choose_events(bus: Bus) -> None:
    async with receiving() as receiver:
        config = config_of(
            {
                "name": "errors",
                "webhook": receiver.url,
                "events": ["job.*"],
                "severity": "error",
                "where": {"not": {"exact": {"data.job_name": "x"}}},
            }
        )
        async with notifying(bus, config):
            await publish(bus, "fine")
            await publish(bus, "x", "y", fails=True)
            await idle(bus, "errors")
    assert receiver.jobs == ["y"]


async def test_a_template_makes_the_text(bus: Bus) -> None:
    async with receiving() as receiver:
        url = receiver.url.replace("http", "json", 1)
        template = "{{ event.data.job_name|upper }} by {{ event.actor }}: {{ count }}, {{ text }}"
        config = config_of({"name": "it", "url": url, "events": ["job.*"], "template": template})
        async with notifying(bus, config):
            await publish(bus, "scan")
            await idle(bus, "it")
    [message] = [json.loads(one.body)["message"] for one in receiver.accepted]
    assert message.startswith("SCAN by job:nightly: 1, ")
    assert "scan" in message


async def test_a_template_that_fails_loses_nothing(bus: Bus) -> None:
    async with receiving() as receiver:
        url = receiver.url.replace("http", "json", 1)
        template = "{{ event.data.job_name|upper }}{{ 1 // event.data.items_processed }}"
        config = config_of({"name": "it", "url": url, "events": ["job.*"], "template": template})
        async with notifying(bus, config):
            await publish(bus, "zero")
            await idle(bus, "it")
    [message] = [json.loads(one.body)["message"] for one in receiver.accepted]
    assert "zero" in message
    assert "{{" not in message


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ event.data.__init__.__globals__ }}",
        "{{ cycler.__init__ }}",
    ],
)
async def test_a_template_cannot_leave_its_sandbox(bus: Bus, template: str) -> None:
    async with receiving() as receiver:
        url = receiver.url.replace("http", "json", 1)
        config = config_of({"name": "it", "url": url, "events": ["job.*"], "template": template})
        async with notifying(bus, config):
            await publish(bus, "a")
            await idle(bus, "it")
    [message] = [json.loads(one.body)["message"] for one in receiver.accepted]
    assert message == "Job a finished" or len(message) < 200


async def test_imported_history_and_deliveries_never_notify(bus: Bus) -> None:
    async with receiving() as receiver, notifying(bus, hook(receiver)):
        old = Envelope.of(MediaFileImported(path="/old.mkv"), actor=JOB)
        await bus.publish_envelope(msgspec.structs.replace(old, extensions={"imported": True}))
        await publish(bus, "a")
        await idle(bus, "hook")
    assert receiver.jobs == ["a"]


async def test_events_before_a_target_existed_are_not_sent(bus: Bus) -> None:
    await publish(bus, "before")
    async with receiving() as receiver:
        async with notifying(bus, hook(receiver, events=["job.*"])):
            await publish(bus, "after")
            await idle(bus, "hook")
        async with notifying(bus, hook(receiver, events=["job.*", "media/*"])):
            await publish(bus, "with other rules")
            await idle(bus, "hook")
    assert receiver.jobs == ["after", "with other rules"]

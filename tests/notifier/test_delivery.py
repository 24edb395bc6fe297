"""The notifier delivers each event once and in order, for any behavior of its targets."""

import asyncio
import functools

import msgspec
import pytest
from aiohttp import web

from mediabus.consumers import daemon
from mediabus.consumers.dead_letters import DeadLetters
from mediabus.consumers.notifier import worker
from mediabus.consumers.notifier.store import StateStore
from mediabus.runtime.nats import pull
from mediabus.runtime.nats.bus import Bus
from tests.support.eventually import eventually
from tests.support.notifying import (
    MovedClock,
    config_of,
    events_in,
    idle,
    is_idle,
    notifying,
    publish,
)
from tests.support.receiver import Answer, closes, receiving, slow, status


async def test_each_event_is_delivered_once_in_order_and_reported(bus: Bus) -> None:
    async with receiving() as receiver:
        config = config_of({"name": "hook", "webhook": receiver.url, "events": ["job.*"]})
        async with notifying(bus, config):
            sent = await publish(bus, "a", "b", "c")
            await idle(bus, "hook")
    assert receiver.jobs == ["a", "b", "c"]
    assert [one.webhook_id for one in receiver.received] == [str(one.id) for one in sent]
    reports = await events_in(bus, "notification.delivered")
    assert [one.fields()["event_ids"] for one in reports] == [[str(one.id)] for one in sent]
    assert reports[0].fields() == {
        "target": "hook",
        "event_ids": [str(sent[0].id)],
        "attempts": 1,
        "answer": "HTTP 204",
    }


@pytest.mark.parametrize(
    "answer",
    [status(500), status(503), status(429), closes, slow(5), status(302), status(404)],
    ids=["500", "503", "429", "closes", "slow", "redirect", "404"],
)
async def test_a_failure_is_retried_with_the_same_id_and_delays_the_later_events(
    bus: Bus, answer: Answer
) -> None:
    async with receiving() as receiver:
        receiver.answers = [answer, answer]
        target = {"name": "hook", "webhook": receiver.url, "timeout": 0.3, "events": ["job.*"]}
        async with notifying(bus, config_of(target)):
            await publish(bus, "a", "b")
            await idle(bus, "hook")
    assert receiver.jobs == ["a", "b"]
    ids = [one.webhook_id for one in receiver.received]
    assert ids[:3] == [ids[0]] * 3
    assert [one.fields()["attempts"] for one in await events_in(bus, "notification.failed")] == [
        1,
        2,
    ]
    assert await DeadLetters(bus).count() == 0


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give an event to another process, and end a message under way, without long waits."""
    monkeypatch.setattr(daemon, "ACK_WAIT", 1.0)
    monkeypatch.setattr(pull, "ACK_WAIT", 1.0)
    monkeypatch.setattr(worker, "FINISH_WITHIN", 0.5)


@pytest.fixture
def watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the clock and at the stream often enough for a test that moves the clock."""
    monkeypatch.setattr(worker, "CLOCK_EVERY", 0.02)
    monkeypatch.setattr(worker, "LOOK_EVERY", 0.02)


async def test_a_message_that_is_refused_for_good_is_a_dead_letter_and_delays_nothing(
    bus: Bus,
) -> None:
    async with receiving() as receiver:
        receiver.answers = [status(400, text="no such field"), status(410)]
        config = config_of({"name": "hook", "webhook": receiver.url, "events": ["job.*"]})
        async with notifying(bus, config):
            await publish(bus, "a", "b", "c")
            await idle(bus, "hook")
    assert receiver.jobs == ["c"]
    letters = await DeadLetters(bus).all()
    assert [(one.consumer, one.kind, one.reason) for one in letters] == [
        ("notify-hook", "rejected", "HTTP 400 no such field"),
        ("notify-hook", "rejected", "HTTP 410"),
    ]
    failed = await events_in(bus, "notification.failed")
    assert [one.fields().get("retry_in_seconds") for one in failed] == [None, None]


@pytest.mark.usefixtures("watchful")
async def test_three_failures_open_the_circuit_and_a_success_closes_it(bus: Bus) -> None:
    clock = MovedClock()
    async with receiving() as receiver:
        receiver.answers = [status(500)] * 3
        target = {"name": "hook", "webhook": receiver.url, "events": ["job.*"]}
        config = config_of(target, retry_delays=["0.01s", "0.01s", "1h"])
        async with notifying(bus, config, clock):
            await publish(bus, "a", "b")
            await eventually(lambda: len(receiver.received) == 3)
            await eventually(lambda: events_in(bus, "notification.target_failing"))
            clock.move(hours=1.2)
            await idle(bus, "hook")
    assert receiver.jobs == ["a", "b"]
    [failing] = await events_in(bus, "notification.target_failing")
    assert (failing.fields()["failures"], failing.severity) == (3, "error")
    assert str(failing.resource) == "target/hook"
    [recovered] = await events_in(bus, "notification.target_recovered")
    assert recovered.fields()["away_seconds"] >= 3600


@pytest.mark.usefixtures("watchful")
async def test_a_target_that_asks_to_wait_gets_nothing_before(bus: Bus) -> None:
    clock = MovedClock()
    async with receiving() as receiver:
        receiver.answers = [status(429, {"Retry-After": "7200"})]
        config = config_of({"name": "hook", "webhook": receiver.url, "events": ["job.*"]})
        async with notifying(bus, config, clock):
            await publish(bus, "a")
            [failed] = await eventually(lambda: events_in(bus, "notification.failed"))
            clock.move(seconds=7100)
            await publish(bus, "b")
            assert failed.fields()["retry_in_seconds"] == 7200
            assert len(receiver.received) == 1
            clock.move(seconds=110)
            await idle(bus, "hook")
    assert receiver.jobs == ["a", "b"]


DELAYS = ["5s", "30s", "5m", "30m", "2h", "6h"]


async def has_failed(bus: Bus, target: str, count: int) -> bool:
    """Whether so many failures are stored, and with them the time of the next attempt."""
    return (await StateStore(bus, target).load()).failures >= count


@pytest.mark.usefixtures("watchful")
@pytest.mark.parametrize("digest", [None, "10m"])
async def test_a_receiver_that_is_away_for_three_days_gets_everything_once_in_order(
    bus: Bus, digest: str | None
) -> None:
    clock = MovedClock()
    jobs = [f"job {number:02}" for number in range(10)]
    async with receiving() as receiver:
        receiver.always = status(503)
        target = {"name": "hook", "webhook": receiver.url, "events": ["job.*"]}
        config = config_of(target | ({"digest": digest} if digest else {}), retry_delays=DELAYS)
        async with notifying(bus, config, clock):
            for number, job in enumerate(jobs, 1):
                await publish(bus, job)
                clock.move(hours=7)
                await eventually(functools.partial(has_failed, bus, "hook", number), within=30)
            clock.move(hours=2)
            receiver.always = None
            clock.move(hours=5)
            await idle(bus, "hook")
    assert receiver.jobs == jobs
    assert await DeadLetters(bus).count() == 0
    assert len(await events_in(bus, "notification.target_recovered")) == 1
    if digest:
        assert len(receiver.accepted) < len(jobs)


@pytest.mark.usefixtures("watchful")
async def test_after_three_days_of_tries_an_event_is_a_dead_letter_and_the_next_is_tried(
    bus: Bus,
) -> None:
    clock = MovedClock()
    async with receiving() as receiver:
        receiver.always = status(503, text="closed")
        target = {"name": "hook", "webhook": receiver.url, "events": ["job.*"]}
        async with notifying(bus, config_of(target, retry_delays=DELAYS), clock):
            await publish(bus, "a", "b")
            await eventually(functools.partial(has_failed, bus, "hook", 1), within=30)
            clock.move(days=3, hours=1)
            await eventually(lambda: DeadLetters(bus).count(), within=30)
            await idle(bus, "hook")
    letters = await DeadLetters(bus).all()
    assert [one.reason for one in letters] == [
        "not delivered within 3 days, last: HTTP 503 closed"
    ] * 2
    tried = [one.events[0]["data"]["job_name"] for one in receiver.received]
    assert set(tried) == {"a", "b"}


@pytest.mark.usefixtures("watchful")
async def test_the_state_of_a_target_survives_the_notifier(bus: Bus) -> None:
    clock = MovedClock()
    async with receiving() as receiver:
        receiver.answers = [status(500)]
        target = {"name": "hook", "webhook": receiver.url, "events": ["job.*"]}
        config = config_of(target, retry_delays=["1h"])
        async with notifying(bus, config, clock):
            await publish(bus, "a")
            await eventually(lambda: events_in(bus, "notification.failed"), within=30)
        async with notifying(bus, config, clock):
            await publish(bus, "b")
            await eventually(lambda: is_delivered_again(bus), within=30)
            assert len(receiver.received) == 1
            clock.move(hours=1.2)
            await idle(bus, "hook")
    assert receiver.jobs == ["a", "b"]
    assert [one.fields()["attempts"] for one in await events_in(bus, "notification.delivered")] == [
        2,
        1,
    ]


async def is_delivered_again(bus: Bus) -> bool:
    info = await bus.js.consumer_info("EVENTS", "notify-hook")
    return (info.num_redelivered or 0) > 0


async def test_two_notifiers_share_the_targets_and_keep_their_order(bus: Bus) -> None:
    jobs = [f"{number:03}" for number in range(60)]
    async with receiving() as receiver:
        receiver.answers = [status(500)] * 3
        target = {"name": "hook", "webhook": receiver.url, "events": ["job.*"]}
        config = config_of(target, retry_delays=["0.01s"])
        async with notifying(bus, config), notifying(bus, config):
            await publish(bus, *jobs)
            await idle(bus, "hook", within=60)
    assert receiver.jobs == jobs
    assert len(await events_in(bus, "notification.delivered")) == len(jobs)


async def test_a_dead_target_delays_no_other(bus: Bus) -> None:
    async with receiving() as alive, receiving() as dead:
        dead.always = slow(60)
        config = config_of(
            {"name": "dead", "webhook": dead.url, "events": ["*"]},
            {"name": "gone", "webhook": "http://127.0.0.1:1/", "events": ["*"]},
            {"name": "alive", "webhook": alive.url, "events": ["*"]},
        )
        async with notifying(bus, config):
            await publish(bus, *"abcdefgh")
            await idle(bus, "alive")
            assert alive.jobs == list("abcdefgh")
            assert not await is_idle(bus, "dead")


async def test_an_event_that_is_published_again_is_not_sent_again(bus: Bus) -> None:
    async with receiving() as receiver:
        receiver.answers = [status(400)]
        config = config_of({"name": "hook", "webhook": receiver.url, "events": ["job.*"]})
        async with notifying(bus, config):
            await publish(bus, "refused", "sent")
            await idle(bus, "hook")
            [letter] = await DeadLetters(bus).all()
            await DeadLetters(bus).retry(letter.number)
            sent = await bus.js.get_msg("EVENTS", 2)
            headers = {**(sent.headers or {}), "Nats-Msg-Id": "x.retry.1"}
            await bus.js.publish(sent.subject or "", sent.data or b"", headers=headers)
            await idle(bus, "hook")
    assert receiver.jobs == ["sent", "refused"]


async def test_a_message_under_way_is_finished_and_kept_when_the_notifier_ends(bus: Bus) -> None:
    arrived, release = asyncio.Event(), asyncio.Event()

    async def waits(_request: web.Request, _body: bytes) -> web.Response:
        arrived.set()
        await release.wait()
        return web.Response(status=200)

    async with receiving() as receiver:
        receiver.answers = [waits]
        config = config_of({"name": "hook", "webhook": receiver.url, "events": ["job.*"]})
        async with notifying(bus, config) as task:
            await publish(bus, "a")
            await arrived.wait()
            task.cancel()
            release.set()
        async with notifying(bus, config):
            await idle(bus, "hook")
    assert len(receiver.received) == 1
    assert len(await events_in(bus, "notification.delivered")) == 1


async def test_a_notifier_that_lost_its_event_overwrites_nothing_and_leaves_it_alone(
    bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    arrived, release = asyncio.Event(), asyncio.Event()

    async def waits(_request: web.Request, _body: bytes) -> web.Response:
        arrived.set()
        await release.wait()
        return web.Response(status=200)

    async with receiving() as receiver:
        receiver.answers = [waits]
        config = config_of({"name": "hook", "webhook": receiver.url, "events": ["job.*"]})
        async with notifying(bus, config):
            await publish(bus, "a")
            await arrived.wait()
            other = StateStore(bus, "hook")
            theirs = msgspec.structs.replace(await other.load(), reason="of another process")
            await other.save(theirs)
            release.set()
            await eventually(lambda: "another process has the target" in caplog.text)
            assert await other.load() == theirs
            info = await bus.js.consumer_info("EVENTS", "notify-hook")
            assert info.num_ack_pending == 1

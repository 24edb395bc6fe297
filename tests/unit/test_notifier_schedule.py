"""Which events go into the next message, and when: pure, with time as an argument."""

import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from mediabus.consumers.notifier.durations import duration, hours, next_time, rate
from mediabus.consumers.notifier.schedule import (
    MAX_BYTES,
    MAX_IN_MESSAGE,
    Drop,
    Held,
    Plan,
    Pressure,
    Schedule,
    Send,
    Wait,
)
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import (
    DownloadClientRecovered,
    DownloadClientUnreachable,
    Event,
    JobExecuted,
    JobFailed,
    MediaFileImported,
)
from mediabus.schemas.identity import Actor, Resource

NOON = datetime.datetime(2026, 7, 1, 12).astimezone()
FREE = Pressure()


def minutes(number: float) -> datetime.timedelta:
    return datetime.timedelta(minutes=number)


def held(seq: int, at: float = 0.0, event: Event | None = None, about: str = "1") -> Held:
    """An event that happened so many minutes after noon."""
    envelope = Envelope.of(
        event or JobExecuted(job_name=str(seq)),
        actor=Actor("job", "x"),
        resource=Resource("thing", about),
    )
    return Held(seq, envelope, NOON + minutes(at))


def seqs(plan: Plan) -> list[int]:
    assert isinstance(plan, Send | Drop), plan
    return [one.seq for one in plan.events]


def away(seq: int, at: float, client: str = "home") -> Held:
    return held(seq, at, DownloadClientUnreachable(client=client, kind="aria2"), client)


def back(seq: int, at: float, client: str = "home") -> Held:
    return held(seq, at, DownloadClientRecovered(client=client, kind="aria2"), client)


def test_without_options_each_event_is_sent_at_once_in_order() -> None:
    waiting = [held(1), held(2)]
    assert seqs(Schedule().plan(waiting, FREE, NOON)) == [1]
    assert not Schedule().looks_ahead


def test_a_retry_waits_and_then_has_the_same_events() -> None:
    waiting = [held(1), held(2), held(3)]
    pressure = Pressure(next_at=NOON + minutes(5), sending={waiting[0].id, waiting[1].id})
    schedule = Schedule(digest=minutes(10))
    assert schedule.plan(waiting, pressure, NOON) == Wait(NOON + minutes(5))
    assert seqs(schedule.plan(waiting, pressure, NOON + minutes(5))) == [1, 2]


def test_a_digest_is_due_after_its_first_event() -> None:
    schedule = Schedule(digest=minutes(10))
    waiting = [held(1, 0), held(2, 9)]
    assert schedule.plan(waiting, FREE, NOON + minutes(9)) == Wait(NOON + minutes(10))
    assert seqs(schedule.plan(waiting, FREE, NOON + minutes(10))) == [1, 2]


def test_a_digest_at_a_time_of_day_is_due_at_the_next_such_time() -> None:
    schedule = Schedule(digest=datetime.time(8))
    eight = datetime.datetime(2026, 7, 2, 8).astimezone()
    assert schedule.plan([held(1)], FREE, NOON) == Wait(eight)
    assert next_time(eight, datetime.time(8)) == eight + datetime.timedelta(days=1)


def test_a_season_is_one_message_and_another_series_is_another() -> None:
    files = [
        held(n, n / 10, MediaFileImported(path=f"/tv/Dark/S01E{n:02}.mkv"), str(n))
        for n in range(1, 25)
    ]
    other = held(25, 2.5, MediaFileImported(path="/tv/Lost/S01E01.mkv"), "x")
    schedule = Schedule(group="media_item", digest=minutes(10))
    plan = schedule.plan([*files, other], FREE, NOON + minutes(10.1))
    assert seqs(plan) == list(range(1, 25))
    assert schedule.plan([other], FREE, NOON + minutes(11)) == Wait(NOON + minutes(12.5))


@pytest.mark.parametrize("count", [1, 14])
def test_short_outages_say_nothing(count: int) -> None:
    schedule = Schedule(hold=minutes(10))
    waiting = [
        one for n in range(count) for one in (away(2 * n + 1, 20 * n), back(2 * n + 2, 20 * n + 3))
    ]
    plan = schedule.plan(waiting, FREE, NOON + minutes(500))
    assert isinstance(plan, Drop)
    assert len(plan.events) == 2 * count


def test_an_outage_longer_than_hold_is_told_and_so_is_its_end() -> None:
    schedule = Schedule(hold=minutes(10))
    waiting = [away(1, 0), back(2, 12)]
    assert schedule.plan(waiting[:1], FREE, NOON + minutes(9)) == Wait(NOON + minutes(10))
    assert seqs(schedule.plan(waiting[:1], FREE, NOON + minutes(10))) == [1]
    assert seqs(schedule.plan(waiting[1:], FREE, NOON + minutes(12))) == [2]


def test_pairs_of_different_clients_do_not_mix_and_others_do_not_wait_for_them() -> None:
    schedule = Schedule(hold=minutes(10))
    waiting = [away(1, 0, "a"), held(2, 1), back(3, 1, "b")]
    assert seqs(schedule.plan(waiting, FREE, NOON + minutes(1))) == [2]


def test_quiet_hours_end_in_one_message_and_an_exception_is_sent_at_once() -> None:
    schedule = Schedule(quiet=hours("11:00-13:00"), exempt="error")
    waiting = [held(1), held(2, 30), held(3, 31, JobFailed(job_name="x"))]
    assert seqs(schedule.plan(waiting, FREE, NOON + minutes(31))) == [3]
    rest = waiting[:2]
    assert schedule.plan(rest, FREE, NOON + minutes(31)) == Wait(NOON + minutes(60))
    late = held(4, 60)
    assert seqs(schedule.plan([*rest, late], FREE, NOON + minutes(60))) == [1, 2]


def test_quiet_hours_may_pass_midnight() -> None:
    night = hours("22:00-07:00")
    seven = datetime.datetime(2026, 7, 2, 7).astimezone()
    for hour, day in ((22, 1), (23, 1), (0, 2), (6, 2)):
        assert night.end_after(datetime.datetime(2026, 7, day, hour).astimezone()) == seven
    for hour in (7, 12, 21):
        assert night.end_after(datetime.datetime(2026, 7, 1, hour).astimezone()) is None


def test_quiet_until_collects_everything_until_then() -> None:
    end = NOON + minutes(60 * 24 * 14)
    schedule = Schedule(quiet_until=end)
    waiting = [held(1), held(2, 1000)]
    assert schedule.plan(waiting, FREE, NOON + minutes(2000)) == Wait(end)
    assert seqs(schedule.plan(waiting, FREE, end)) == [1, 2]


def test_a_rate_delays_and_its_last_message_has_all_that_is_due() -> None:
    schedule = Schedule(rate=rate("3/h"))
    waiting = [held(n) for n in range(1, 6)]
    assert seqs(schedule.plan(waiting, FREE, NOON)) == [1]
    sent = (NOON, NOON)
    assert seqs(schedule.plan(waiting, Pressure(sent=sent), NOON)) == [1, 2, 3, 4, 5]
    full = Pressure(sent=(*sent, NOON + minutes(1)))
    assert schedule.plan(waiting, full, NOON + minutes(2)) == Wait(NOON + minutes(60))
    assert seqs(schedule.plan(waiting, full, NOON + minutes(60))) == [1]


def test_a_message_has_a_limit_of_events_and_of_bytes() -> None:
    schedule = Schedule(digest=minutes(1))
    many = [held(n) for n in range(1, MAX_IN_MESSAGE + 50)]
    assert len(seqs(schedule.plan(many, FREE, NOON + minutes(2)))) == MAX_IN_MESSAGE
    large = [held(n, 0, JobExecuted(job_name="x" * (MAX_BYTES // 3))) for n in range(1, 9)]
    assert 1 <= len(seqs(schedule.plan(large, FREE, NOON + minutes(2)))) <= 4


OPTIONS = some.fixed_dictionaries(
    {
        "digest": some.sampled_from([None, minutes(10), datetime.time(8)]),
        "group": some.sampled_from([None, "media_item", "client", "type"]),
        "quiet": some.sampled_from([None, hours("22:00-07:00")]),
        "hold": some.sampled_from([None, minutes(10)]),
        "rate": some.sampled_from([None, rate("2/h")]),
        "exempt": some.sampled_from([None, "error"]),
    }
)
EVENTS = some.lists(
    some.tuples(
        some.sampled_from(["job", "failed", "away", "back"]), some.floats(0, 600, allow_nan=False)
    ),
    min_size=1,
    max_size=12,
)


@given(OPTIONS, EVENTS)
def test_every_event_ends_in_one_message_or_in_a_pair(
    options: dict[str, Any], events: list[tuple[str, float]]
) -> None:
    make = {
        "job": held,
        "failed": lambda n, at: held(n, at, JobFailed(job_name="x")),
        "away": away,
        "back": back,
    }
    times = sorted(at for _, at in events)
    waiting = [
        make[kind](n, at) for n, ((kind, _), at) in enumerate(zip(events, times, strict=True))
    ]
    schedule, now = Schedule(**options), NOON
    sent: list[datetime.datetime] = []
    done: list[int] = []
    while waiting:
        match schedule.plan(waiting, Pressure(sent=sent), now):
            case Wait(until):
                assert until > now
                now = until
                continue
            case Send(chosen):
                assert chosen
                sent.append(now)
            case Drop(chosen):
                kinds = {one.envelope.type for one in chosen}
                assert kinds == {"download_client.unreachable", "download_client.recovered"}
        done += [one.seq for one in chosen]
        waiting = [one for one in waiting if one not in chosen]
    assert sorted(done) == list(range(len(events)))


@pytest.mark.parametrize("text", ["", "10", "m", "-5m", "10 m", "1w", "1e9h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        duration(text)


@pytest.mark.parametrize("text", ["22:00", "25:00-07:00", "07:00-07:00", "22-7"])
def test_what_are_no_hours_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not hours|not a time|same time"):
        hours(text)


@pytest.mark.parametrize("text", ["20", "0/h", "x/h", "5/w"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a rate"):
        rate(text)

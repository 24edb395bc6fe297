"""The command line against real servers."""

import asyncio
import contextlib
import json
import os
import pty
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from nats.js.api import AckPolicy, ConsumerConfig

from mediabus.doctor.nats_checks import served
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.process.work import Work
from mediabus.runtime.settings import Settings
from mediabus.schemas.docs.examples import MEDIA_ITEM
from mediabus.schemas.events import EVENT_TYPES, JobExecuted, JobFailed, MediaItemRemoved
from mediabus.schemas.identity import Actor, Resource
from mediabus.schemas.operations.registry import OPERATIONS
from mediabus.schemas.subjects import EVENTS_STREAM
from mediabus.service.config import config_of
from mediabus.wiring.parts import serve, store
from tests.support.commands import PROGRAM, Outcome, environment, mediabus, start
from tests.support.eventually import eventually
from tests.support.servers import NatsServer
from tests.support.stream import record

NIGHTLY = Actor("job", "nightly")


class Here:
    """The command, with the URL of the test's NATS server."""

    def __init__(self, nats: NatsServer, bus: Bus) -> None:
        self.nats = nats
        self.bus = bus

    async def __call__(self, *args: str, stdin: bytes = b"") -> Outcome:
        return await mediabus("--nats", self.nats.url, *args, stdin=stdin)

    async def lines(self, *args: str) -> list[Any]:
        """The JSON lines of a command that succeeds in silence."""
        outcome = await self(*args, "--json")
        assert (outcome.code, outcome.err) == (0, "")
        return [json.loads(line) for line in outcome.out.splitlines()]


@pytest.fixture
def here(nats: NatsServer, bus: Bus) -> Here:
    return Here(nats, bus)


@contextlib.asynccontextmanager
async def working(*parts: Any) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@pytest.fixture
async def stored(here: Here, pool: Pool, settings: Settings) -> AsyncIterator[Here]:
    """With a persister at work."""
    async with working(store(Work(here.bus, settings, None, pool))):
        yield here


async def removed(bus: Bus, title: str) -> str:
    event = MediaItemRemoved(title=title, media_type="movie", monitored=True)
    resource = Resource("media_item", str(MEDIA_ITEM))
    return str((await bus.publish(event, actor=Actor("user", "42"), resource=resource)).id)


async def counted(pool: Pool, count: int) -> None:
    async def there() -> bool:
        return bool(await pool.fetchval("SELECT count(*) FROM events") == count)

    await eventually(there)


async def test_a_published_event_is_in_the_history(stored: Here, pool: Pool) -> None:
    outcome = await stored(
        "publish", "job.executed", "--data", '{"job_name": "backup", "host": "nas"}',
        "--actor", "job:backup", "--resource", f"media_item:{MEDIA_ITEM}", "--correlation", "c-1",
    )  # fmt: skip
    assert (outcome.code, outcome.err) == (0, "")
    await counted(pool, 1)
    [event] = await stored.lines("history")
    assert event["id"] == outcome.out.strip()
    assert (event["actor_type"], event["actor_id"]) == ("job", "backup")
    assert (event["resource_type"], event["resource_id"]) == ("media_item", str(MEDIA_ITEM))
    assert (event["correlation_id"], event["source"]) == ("c-1", "mediabus/cli")
    assert event["data"] == {"job_name": "backup", "host": "nas"}


async def test_anything_may_be_published_and_a_slip_is_pointed_out(here: Here) -> None:
    slip = await here("publish", "job.exectued", "--data", "-", stdin=b'{"any": "thing"}')
    assert slip.code == 0
    assert slip.err == "note: job.exectued is not a registered type (did you mean job.executed?)\n"
    [event] = await here.lines("tail", "--since", "1h", "--no-follow")
    assert (event["id"], event["type"]) == (slip.out.strip(), "job.exectued")
    assert (event["actortype"], event["actorid"]) == ("user", "tester")
    assert event["data"] == {"any": "thing"}


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("publish", "job.failed"), 1, "data of job.failed: Object missing required field"),
        (("publish", "x.y", "--data", "{"), 1, "--data is not JSON: Input data was truncated"),
        (("publish", "job.failed", "--data", "[]"), 1, "data of job.failed: Expected `object`"),
        (("publish", "x.y", "--actor", "42"), 2, "invalid actor '42': use user:ID"),
        (("publish", "x.y", "--actor", "bot:1"), 2, "invalid actor 'bot:1'"),
        (("publish", "x.y", "--resource", "x"), 2, "invalid resource 'x'"),
        (("publish",), 2, "Missing argument 'TYPE'"),
        (("tail", "--since", "yesterday"), 2, "invalid time 'yesterday': use 90s"),
        (("tail", "a..b"), 2, "'a..b' is not a filter"),
        (("tail", "events.>.x"), 2, "'events.>.x' is not a filter: use a category"),
        (("secure", "/dev/null/keys"), 1, "mediabus: /dev/null/keys: Not a directory"),
        (
            ("dead", "show", "7"),
            1,
            "dead letter 7 does not exist: list them with `mediabus dead list`",
        ),
        (("dead", "discard", "7"), 1, "dead letter 7 does not exist"),
        (("dead", "retry"), 2, "give dead-letter numbers, --all, or a filter"),
        (("history",), 1, "No service answers history.list. Start `mediabus up`"),
        (("history", "--count"), 1, "No service answers history.count"),
        (("--config", "/no/such", "history"), 2, "cannot read the settings file /no/such"),
        (("--nats", "http://nats:4222", "history"), 2, "not a URL of NATS servers"),
        (("nonsense",), 2, "No such command 'nonsense'"),
    ],
)
async def test_errors_are_a_line_and_an_exit_code(
    here: Here, args: tuple[str, ...], code: int, said: str
) -> None:
    outcome = await here(*args)
    assert outcome.code == code
    assert said in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    if code == 1:
        assert outcome.err.startswith("mediabus: ")
        assert outcome.err.count("\n") == 1


async def test_without_nats_a_command_fails_soon_with_advice() -> None:
    outcome = await mediabus("--nats", "nats://127.0.0.1:1", "tail")
    assert outcome.code == 1
    assert outcome.err.startswith("mediabus: cannot reach NATS at nats://127.0.0.1:1: ")
    assert "Connect call failed" in outcome.err
    assert "Start it with `mediabus up`" in outcome.err


async def test_without_a_stream_a_command_names_its_creator(nats: NatsServer) -> None:
    for args in (("tail",), ("publish", "x.y")):
        outcome = await mediabus("--nats", nats.url, *args)
        assert outcome.code == 1
        assert "NATS has no stream EVENTS yet: start mediabus" in outcome.err


async def test_settings_that_cannot_be_used_name_the_key() -> None:
    outcome = await mediabus("doctor", MEDIABUS_PERSISTER_WRITERS="0")
    assert outcome.code == 2
    assert outcome.err == "mediabus: MEDIABUS_PERSISTER_WRITERS: Expected `int` >= 1\n"


async def test_a_running_mediabus_is_found_by_its_data_directory(
    here: Here, tmp_path: Path
) -> None:
    found = {"nats_url": here.nats.url, "database_url": "postgresql://unused"}
    (tmp_path / "connection.json").write_text(json.dumps(found))
    outcome = await mediabus("--data-dir", str(tmp_path), "publish", "x.y")
    assert outcome.code == 0


@pytest.mark.parametrize(
    ("wanted", "titles"),
    [
        ([], ["scan", "Dune", "scan"]),
        (["media"], ["Dune"]),
        (["media_item.removed"], ["Dune"]),
        (["job.*"], ["scan", "scan"]),
        (["job.failed"], ["scan"]),
        ([f"events.*.*.*.{MEDIA_ITEM}"], ["Dune"]),
        (["events.nothing.>"], []),
    ],
)
async def test_tail_shows_what_passes_its_filter(
    here: Here, wanted: list[str], titles: list[str]
) -> None:
    await here.bus.publish(JobExecuted(job_name="scan"), actor=NIGHTLY)
    await removed(here.bus, "Dune")
    await here.bus.publish(JobFailed(job_name="scan"), actor=NIGHTLY)
    events = await here.lines("tail", *wanted, "--since", "1h", "--no-follow")
    assert [event["data"].get("title") or event["data"]["job_name"] for event in events] == titles


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("job.exectued", "job.exectued is not a registered type (did you mean job.executed?)"),
        ("download", "download is not a registered category (did you mean downloads?)"),
        ("shop.it_happened", "shop.it_happened is not a registered type"),
    ],
)
async def test_tail_warns_about_an_unknown_name(here: Here, wanted: str, said: str) -> None:
    await here("publish", "shop.it_happened")
    outcome = await here("tail", wanted, "--since", "1h", "--no-follow", "--json")
    assert (outcome.code, outcome.err) == (0, f"note: {said}\n")
    types = [json.loads(line)["type"] for line in outcome.out.splitlines()]
    assert types == [wanted] * (wanted == "shop.it_happened")


async def test_history_warns_about_an_unknown_name(stored: Here) -> None:
    slip = await stored("history", "--type", "job.exectued", "--category", "download", "--json")
    assert (slip.code, slip.out) == (0, "")
    assert slip.err.splitlines() == [
        "note: job.exectued is not a registered type (did you mean job.executed?)",
        "note: download is not a registered category (did you mean downloads?)",
    ]


async def test_an_event_line_has_subject_and_actor_without_escapes(here: Here) -> None:
    await removed(here.bus, "Du\x1b[2Jne\nII")
    outcome = await here("tail", "--since", "2020-01-01", "--no-follow")
    [line] = outcome.out.splitlines()
    title = "Du\N{REPLACEMENT CHARACTER}[2Jne\N{REPLACEMENT CHARACTER}II"
    assert line[8:] == f"  {'media_item.removed':<29}  {title}  by user:42 (claimed)"


async def test_tail_reports_invalid_events_on_standard_error(here: Here) -> None:
    await here.bus.js.publish("events.a.b.c.-", b"nonsense")
    await removed(here.bus, "Dune")
    outcome = await here("tail", "--since", "1h", "--no-follow", "--json")
    assert json.loads(outcome.out)["data"]["title"] == "Dune"
    assert outcome.err.startswith("invalid event at events.a.b.c.-, number 1: not a CloudEvents")


@contextlib.asynccontextmanager
async def tailing(here: Here, *args: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await start("--nats", here.nats.url, "tail", "--json", *args)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def next_title(process: asyncio.subprocess.Process) -> str:
    assert process.stdout
    line = await asyncio.wait_for(process.stdout.readline(), timeout=20)
    title: str = json.loads(line)["data"]["title"]
    return title


async def restarted(here: Here) -> None:
    before = here.bus.nc.stats["reconnects"]
    here.nats.kill()
    here.nats.start()
    await eventually(lambda: here.bus.nc.stats["reconnects"] > before)


async def test_tail_continues_after_a_restart_of_nats(here: Here) -> None:
    await removed(here.bus, "one")
    async with tailing(here, "--since", "1h") as process:
        assert await next_title(process) == "one"
        await removed(here.bus, "two")
        assert await next_title(process) == "two"
        for number in range(3):
            await restarted(here)
            await removed(here.bus, f"after {number}")
            assert await next_title(process) == f"after {number}"
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
        assert (process.returncode, out) == (0, b"")
        assert b"Traceback" not in err


@pytest.mark.parametrize("since", [("--since", "1h"), ()])
@pytest.mark.parametrize("kept", [0, 2])
@pytest.mark.parametrize("news", [2, 12])
async def test_tail_continues_after_nats_lost_the_end_of_its_stream(
    here: Here, since: tuple[str, ...], kept: int, news: int
) -> None:
    """With an older store, or an empty one, whether it has grown past the reader or not."""
    store, older = here.nats.directory / "store", here.nats.directory / "older"
    for number in range(kept):
        await removed(here.bus, f"kept {number}")
    await asyncio.to_thread(here.nats.stop)
    shutil.copytree(store, older)
    await asyncio.to_thread(here.nats.start)
    await eventually(lambda: here.bus.is_connected)
    if not kept:
        await here.bus.js.purge_stream("EVENTS")
    await removed(here.bus, "before")
    async with tailing(here, *since) as process:
        shown = [await next_title(process) for _ in range(kept + 1)] if since else []
        if not since:
            await until_it_reads(here, process)
        for number in range(5):
            await removed(here.bus, f"lost {number}")
            shown.append(await next_news(process))
        await asyncio.to_thread(here.nats.kill)
        shutil.rmtree(store)
        older.rename(store)
        await asyncio.to_thread(here.nats.start)
        await eventually(lambda: here.bus.is_connected)
        for number in range(news):
            await removed(here.bus, f"new {number}")
        assert [await next_news(process) for _ in range(news)] == [f"new {n}" for n in range(news)]
        process.terminate()
        assert process.stderr
        said = (await process.stderr.read()).decode()
    assert "NATS lost the end of its stream, continuing with the new messages in it" in said


async def until_it_reads(here: Here, process: asyncio.subprocess.Process) -> None:
    """It leaves nothing in NATS by which one could see it: so it is shown something."""
    title = asyncio.create_task(next_title(process))
    while not title.done():
        await removed(here.bus, "probe")
        await asyncio.wait([title], timeout=1)


async def next_news(process: asyncio.subprocess.Process) -> str:
    while (title := await next_title(process)) == "probe":
        pass
    return title


async def test_tail_continues_after_its_stream_is_created_again(here: Here) -> None:
    config = (await here.bus.js.stream_info("EVENTS")).config
    await removed(here.bus, "before")
    async with tailing(here) as process:
        await until_it_reads(here, process)
        await here.bus.js.delete_stream("EVENTS")
        await here.bus.js.add_stream(config)
        await removed(here.bus, "after")
        assert await next_news(process) == "after"


async def test_tail_without_since_shows_only_what_is_new(here: Here) -> None:
    await removed(here.bus, "old")
    async with tailing(here) as process:
        await until_it_reads(here, process)
        await removed(here.bus, "new")
        assert await next_news(process) == "new"


async def test_a_closed_pipe_ends_a_command_quietly(here: Here) -> None:
    for number in range(300):
        await removed(here.bus, f"{number} " + "x" * 1000)
    code, out, err = await first_line_of(here, "tail --since 1h --json")
    assert out.count(b"\n") == 1
    assert (code, err) == (0, b"")


async def test_a_closed_pipe_ends_the_doctor_quietly(here: Here) -> None:
    _, out, err = await first_line_of(here, "doctor")
    assert out.startswith(b"ok       NATS")
    assert err == b""


async def first_line_of(here: Here, command: str) -> tuple[int | None, bytes, bytes]:
    """The exit code of a command whose reader leaves after a line, that line, and complaints."""
    pipeline = " ".join((*PROGRAM, "--nats", here.nats.url, command))
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", f"{pipeline} | head -n 1; exit ${{PIPESTATUS[0]}}",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment(),
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), timeout=30)
    return process.returncode, out, err


async def test_history_filters_pages_and_counts(stored: Here, pool: Pool) -> None:
    ids = [await removed(stored.bus, f"film {number}") for number in range(12)]
    await stored.bus.publish(JobFailed(job_name="scan"), actor=NIGHTLY)
    await counted(pool, 13)
    newest = await stored("history", "--limit", "5", "--category", "media", "--json")
    assert [json.loads(line)["id"] for line in newest.out.splitlines()] == ids[:6:-1]
    after = newest.err.split()[-1]
    rest = await stored.lines("history", "--all", "--category", "media", "--after", after)
    assert [event["id"] for event in rest] == ids[6::-1]
    [failed] = await stored.lines("history", "--severity", "error", "--actor", "job:nightly")
    assert failed["type"] == "job.failed"
    assert await stored.lines("history", "--actor", "user", "--type", "job.failed") == []
    assert len(await stored.lines("history", "--resource", f":{MEDIA_ITEM}")) == 12
    assert await stored.lines("history", "--until", "1h") == []
    wrong = await stored("history", "--after", "nonsense")
    assert (wrong.code, wrong.err) == (
        1,
        "mediabus: after must be the `next` of the previous page\n",
    )
    [counts] = await stored.lines("history", "--count", "--since", "1h")
    assert counts == {"total": 13, "by_type": {"media_item.removed": 12, "job.failed": 1}}


async def on_a_terminal(*args: str) -> str:
    """What a command shows on a terminal of 200 columns."""
    ours, theirs = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            *PROGRAM,
            *args,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**environment(), "TERM": "xterm"},
        )
        assert await asyncio.wait_for(process.wait(), timeout=30) == 0
        return os.read(ours, 1 << 16).decode()
    finally:
        os.close(ours)
        os.close(theirs)


async def test_a_terminal_gets_a_table_with_titles_as_they_are(stored: Here, pool: Pool) -> None:
    await removed(stored.bus, "[bold]Dune[/bold] \x1b[2J")
    await counted(pool, 1)
    shown = await on_a_terminal("--nats", stored.nats.url, "history")
    assert "time" in shown.splitlines()[0]
    assert "[bold]Dune[/bold] \N{REPLACEMENT CHARACTER}[2J" in shown
    assert "\x1b[32m" in shown  # green: all is well
    none = await on_a_terminal("--nats", stored.nats.url, "history", "--type", "x")
    assert "no events match" in none
    await removed(stored.bus, "Alien")
    await counted(pool, 2)
    page = await on_a_terminal("--nats", stored.nats.url, "history", "--limit", "1")
    assert "more events match; to continue, add --after" in page.splitlines()[-1]
    letters = await on_a_terminal("--nats", stored.nats.url, "dead", "list")
    assert "no dead letters" in letters


async def listed(here: Here, count: int = 3) -> None:
    """Wait until so many dead letters are listed."""

    async def there() -> bool:
        return len(await here.lines("dead", "list")) == count

    await eventually(there, within=30)


@pytest.fixture
async def dead(stored: Here) -> Here:
    """With three dead letters of the persister."""
    for body in (b"nonsense", b"\xff\xfe", b"{}"):
        await stored.bus.js.publish("events.a.b.c.-", body)
    await listed(stored)
    return stored


async def test_dead_letters_are_listed_newest_first_with_their_body(dead: Here) -> None:
    letters = await dead.lines("dead", "list", "--limit", "2")
    assert [letter["number"] for letter in letters] == [3, 2]
    assert {letter["consumer"] for letter in letters} == {"persister"}
    assert "not a CloudEvents 1.0 envelope" in (await dead("dead", "list")).out
    assert (await dead("dead", "show", "2")).out.endswith("\n\\xff\\xfe\n")
    [as_json] = await dead.lines("dead", "show", "1")
    assert as_json["body"] == "nonsense"


async def test_dead_letters_are_filtered_and_counted(dead: Here) -> None:
    chosen = await dead.lines("dead", "list", "--reason", "missing required", "--type", "b.*")
    assert [letter["number"] for letter in chosen] == [3]
    [counts] = await dead.lines("dead", "stats")
    assert (counts["consumer"], counts["kind"], counts["type"]) == ("persister", "invalid", "b.c")
    assert counts["count"] == 3
    assert "3  persister  invalid  b.c" in (await dead("dead", "stats")).out


async def test_dead_letters_are_retried_by_number_or_filter(dead: Here) -> None:
    again = await dead("dead", "retry", "1", "77", "2")
    assert again.out == "1 published again\n2 published again\n"
    assert (again.code, again.err) == (
        1,
        "mediabus: dead letter 77 does not exist: list them with `mediabus dead list`\n",
    )
    await listed(dead)  # they are still invalid
    by_reason = await dead("dead", "retry", "--reason", "missing required")
    assert by_reason.out == "3 published again\n"
    await listed(dead)


async def test_discarding_dead_letters_asks_first(dead: Here, pool: Pool) -> None:
    both = await dead("dead", "discard", "--all", "--kind", "failed")
    assert both.code == 2
    refused = await dead("dead", "discard", "--all", stdin=b"n\n")
    assert refused.code == 130
    kept = await dead("dead", "discard", "--all")  # without input, there is no confirmation
    assert (kept.code, kept.err) == (130, "mediabus: aborted, nothing was changed\n")
    gone = await dead("dead", "discard", "--all", "--yes")
    assert (gone.code, gone.out) == (0, "3 deleted\n")
    assert await dead.lines("dead", "list") == []
    assert await pool.fetchval("SELECT count(*) FROM events") == 0


async def test_doctor_reports_no_problem_of_a_complete_mediabus(
    stored: Here, pool: Pool, settings: Settings
) -> None:
    await removed(stored.bus, "Dune")
    await counted(pool, 1)
    async with working(serve(Work(stored.bus, settings, config_of(settings), pool))):
        outcome = await stored("doctor")
        assert (outcome.code, outcome.err) == (0, "")
        assert "problem" not in outcome.out
        names = {finding["name"] for finding in await stored.lines("doctor")}
        assert await served(stored.bus) == dict.fromkeys(OPERATIONS, 1)  # as documented
    assert {"NATS", "stream EVENTS", "persister", "media", "downloads", "PostgreSQL"} < names


async def test_doctor_names_a_consumer_that_no_process_runs(here: Here) -> None:
    async def finding() -> dict[str, Any]:
        outcome = await here("doctor", "--json")
        findings = map(json.loads, outcome.out.splitlines())
        return next(one for one in findings if one["name"] == "consumer notifier")

    config = ConsumerConfig(durable_name="notifier", ack_policy=AckPolicy.EXPLICIT)
    await here.bus.js.add_consumer(EVENTS_STREAM, config)
    assert (await finding())["ok"]
    await removed(here.bus, "Dune")
    found = await finding()
    assert (found["ok"], found["found"]) == (False, "backlog of 1 events")
    assert "no process runs it" in found["advice"]


@pytest.mark.parametrize(
    ("change", "found", "refusal"),
    [
        (
            {"sealed": True, "duplicate_window": 0},
            "sealed: it accepts no messages",
            "sealed stream",
        ),
        ({"max_msgs": 1}, "full: 1 of 1 messages", "maximum messages exceeded"),
        ({"max_bytes": 300}, "full: ", "maximum bytes exceeded"),
    ],
)
async def test_doctor_names_a_sealed_stream_and_the_waiting_events(  # noqa: PLR0917
    here: Here,
    pool: Pool,
    settings: Settings,
    change: dict[str, object],
    found: str,
    refusal: str,
) -> None:
    await removed(here.bus, "before")
    config = (await here.bus.js.stream_info("EVENTS")).config
    await here.bus.js.update_stream(config.evolve(**change))
    async with working(
        serve(Work(here.bus, settings, config_of(settings), pool)),
        store(Work(here.bus, settings, None, pool)),
    ):
        assert await record(pool, "one", "two")

        async def both() -> dict[str, str]:
            outcome = await here("doctor", "--json")
            assert (outcome.code, outcome.err) == (1, "")
            lines = [json.loads(line) for line in outcome.out.splitlines()]
            problems = {line["name"]: line["found"] for line in lines if not line["ok"]}
            return problems if {"stream EVENTS", "outbox"} <= problems.keys() else {}

        problems = await eventually(both, within=60)
    assert found in problems["stream EVENTS"]
    assert "2 events wait, NATS refuses them since" in problems["outbox"]
    assert refusal in problems["outbox"]


async def test_doctor_names_what_is_missing_with_advice(here: Here) -> None:
    await here.bus.js.publish("dead_letters.x.y", b"")
    await here.bus.js.delete_stream("EVENTS")
    outcome = await here("doctor", "--json")
    found = {finding["name"]: finding for finding in map(json.loads, outcome.out.splitlines())}
    assert outcome.code == 1
    assert [name for name, finding in found.items() if finding["ok"]] == [
        "NATS",
        "stream DEAD_LETTERS",
    ]
    assert "mediabus dead list" in found["dead letters"]["advice"]
    assert "mediabus service" in found["media"]["advice"]
    assert "mediabus persist" in found["history"]["advice"]
    assert found["stream EVENTS"]["found"] == "missing"
    nothing = await mediabus("--nats", "nats://127.0.0.1:1", "doctor")
    assert nothing.code == 1
    assert "unreachable" in nothing.out


async def test_doctor_reports_a_missing_persister(
    here: Here, pool: Pool, settings: Settings
) -> None:
    async with working(store(Work(here.bus, settings, None, pool))):
        await removed(here.bus, "Dune")
        await counted(pool, 1)
    await removed(here.bus, "Alien")

    async def told() -> bool:  # the request of the persister that is gone lives on for a while
        outcome = await here("doctor")
        return outcome.code == 1 and "no persister is running" in outcome.out

    await eventually(told, within=45, every=2)


async def test_the_documents_are_printed() -> None:
    for document in ("jsonschema", "asyncapi"):
        outcome = await mediabus("schema", document)
        assert outcome.code == 0
        assert EVENT_TYPES.keys() <= set(outcome.out.replace('"', " ").split())
        json.loads(outcome.out)
    markdown = await mediabus("schema", "markdown")
    assert markdown.out.startswith("# Events\n")


async def test_the_schema_is_migrated_once(database_url: str) -> None:
    outcome = await mediabus("migrate", MEDIABUS_DATABASE_URL=database_url)
    assert (outcome.code, outcome.out) == (0, "the schema is up to date\n")


async def test_migrate_prints_what_it_waits_for() -> None:
    process = await start("migrate", MEDIABUS_DATABASE_URL="postgresql://x@127.0.0.1:1/x")
    try:
        assert process.stderr
        told = await asyncio.wait_for(process.stderr.readline(), timeout=30)
        assert b"waiting for PostgreSQL" in told
    finally:
        process.send_signal(signal.SIGINT)
        await process.communicate()
    assert process.returncode == 130

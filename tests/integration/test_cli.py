"""The command line against real servers."""

import asyncio
import contextlib
import json
import os
import pty
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from schemas.events import EVENT_TYPES, JobExecuted, JobFailed, MediaItemRemoved
from schemas.examples import MEDIA_ITEM
from schemas.identity import Actor, Resource
from schemas.operations import OPERATIONS
from service.cli.checks import _served
from service.cli.parts import operations_part, persister_part
from service.runtime.bus import Bus
from service.runtime.database import Pool
from service.runtime.settings import Settings
from tests.support.commands import PROGRAM, Outcome, environment, mediabus, start
from tests.support.eventually import eventually
from tests.support.servers import NatsServer

NIGHTLY = Actor("job", "nightly")


class Here:
    """The command, told where the test's NATS is."""

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
    async with working(persister_part(here.bus, pool, settings)):
        yield here


async def removed(bus: Bus, title: str) -> str:
    event = MediaItemRemoved(title=title, media_type="movie", monitored=True)
    resource = Resource("media_item", str(MEDIA_ITEM))
    return str((await bus.publish(event, actor=Actor("user", "42"), resource=resource)).id)


async def counted(pool: Pool, count: int) -> None:
    async def there() -> bool:
        return bool(await pool.fetchval("SELECT count(*) FROM events") == count)

    await eventually(there)


async def test_what_is_published_is_in_the_history(stored: Here, pool: Pool) -> None:
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
    assert slip.err == "note: job.exectued is no registered type (did you mean job.executed?)\n"
    [event] = await here.lines("tail", "--since", "1h", "--no-follow")
    assert (event["id"], event["type"]) == (slip.out.strip(), "job.exectued")
    assert (event["actortype"], event["actorid"]) == ("user", "tester")
    assert event["data"] == {"any": "thing"}


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("publish", "job.failed"), 1, "data of job.failed: Object missing required field"),
        (("publish", "x.y", "--data", "{"), 1, "--data is not JSON: Input data was truncated"),
        (("publish", "x.y", "--data", "[]"), 1, "data of x.y: Expected `object`, got `array`"),
        (("publish", "x.y", "--actor", "42"), 2, "'42' is no actor: say user:ID"),
        (("publish", "x.y", "--actor", "bot:1"), 2, "'bot:1' is no actor"),
        (("publish", "x.y", "--resource", "x"), 2, "'x' is no resource"),
        (("publish",), 2, "Missing argument 'TYPE'"),
        (("tail", "--since", "yesterday"), 2, "'yesterday' is no moment"),
        (("tail", "a..b"), 2, "'a..b' is no filter"),
        (("tail", "events.>.x"), 2, "'events.>.x' is no filter: say a category"),
        (("secure", "/dev/null/keys"), 1, "mediabus: /dev/null/keys: Not a directory"),
        (("dead", "show", "7"), 1, "no dead letter 7: `mediabus dead list` has them"),
        (("dead", "discard", "7"), 1, "no dead letter 7"),
        (("dead", "retry"), 2, "give the numbers of dead letters, or --all"),
        (("history",), 1, "nobody answers history.list: start `mediabus up`"),
        (("history", "--count"), 1, "nobody answers history.count"),
        (("--config", "/no/such", "history"), 2, "cannot read the settings file /no/such"),
        (("--nats", "http://nats:4222", "history"), 2, "no URL of NATS servers: nats://host"),
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


async def test_without_nats_a_command_says_so_soon_and_what_to_do() -> None:
    outcome = await mediabus("--nats", "nats://127.0.0.1:1", "tail")
    assert outcome.code == 1
    assert outcome.err.startswith("mediabus: no NATS server at nats://127.0.0.1:1 (")
    assert "Connect call failed" in outcome.err
    assert "`mediabus up` starts one" in outcome.err


async def test_without_a_stream_a_command_says_who_makes_it(nats: NatsServer) -> None:
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
        ("job.exectued", "job.exectued is no registered type (did you mean job.executed?)"),
        ("download", "download is no registered category (did you mean downloads?)"),
        ("shop.it_happened", "shop.it_happened is no registered type"),
    ],
)
async def test_tail_points_out_a_slip_and_goes_on(here: Here, wanted: str, said: str) -> None:
    await here("publish", "shop.it_happened")
    outcome = await here("tail", wanted, "--since", "1h", "--no-follow", "--json")
    assert (outcome.code, outcome.err) == (0, f"note: {said}\n")
    types = [json.loads(line)["type"] for line in outcome.out.splitlines()]
    assert types == [wanted] * (wanted == "shop.it_happened")


async def test_history_points_out_a_slip_and_goes_on(stored: Here) -> None:
    slip = await stored("history", "--type", "job.exectued", "--category", "download", "--json")
    assert (slip.code, slip.out) == (0, "")
    assert slip.err.splitlines() == [
        "note: job.exectued is no registered type (did you mean job.executed?)",
        "note: download is no registered category (did you mean downloads?)",
    ]


async def test_a_line_for_people_names_what_and_who_and_obeys_no_escape(here: Here) -> None:
    await removed(here.bus, "Du\x1b[2Jne\nII")
    outcome = await here("tail", "--since", "2020-01-01", "--no-follow")
    [line] = outcome.out.splitlines()
    title = "Du\N{REPLACEMENT CHARACTER}[2Jne\N{REPLACEMENT CHARACTER}II"
    assert line[8:] == f"  {'media_item.removed':<29}  {title}  by user:42"


async def test_tail_says_on_the_side_what_is_no_event(here: Here) -> None:
    await here.bus.js.publish("events.a.b.c.-", b"nonsense")
    await removed(here.bus, "Dune")
    outcome = await here("tail", "--since", "1h", "--no-follow", "--json")
    assert json.loads(outcome.out)["data"]["title"] == "Dune"
    assert outcome.err.startswith("no event at events.a.b.c.-, number 1: not a CloudEvents")


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


async def test_tail_follows_through_a_restart_of_nats_and_leaves_in_peace(here: Here) -> None:
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


async def test_tail_without_since_shows_only_what_is_new(here: Here) -> None:
    await removed(here.bus, "old")
    async with tailing(here) as process:

        async def is_read() -> bool:
            return (await here.bus.js.stream_info("EVENTS")).state.consumer_count > 0

        await eventually(is_read)
        await removed(here.bus, "new")
        assert await next_title(process) == "new"


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
    assert (wrong.code, wrong.err) == (1, "mediabus: after takes the next of the page before\n")
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
    assert "nothing happened that matches" in none
    await removed(stored.bus, "Alien")
    await counted(pool, 2)
    page = await on_a_terminal("--nats", stored.nats.url, "history", "--limit", "1")
    assert "there is more: add --after" in page.splitlines()[-1]
    letters = await on_a_terminal("--nats", stored.nats.url, "dead", "list")
    assert "no dead letters" in letters


async def test_dead_letters_are_listed_shown_retried_and_discarded(
    stored: Here, pool: Pool
) -> None:
    for body in (b"nonsense", b"\xff\xfe", b"{}"):
        await stored.bus.js.publish("events.a.b.c.-", body)

    async def buried() -> bool:
        return len(await stored.lines("dead", "list")) == 3

    await eventually(buried, within=20)
    letters = await stored.lines("dead", "list", "--limit", "2")
    assert [letter["number"] for letter in letters] == [3, 2]
    assert {letter["consumer"] for letter in letters} == {"persister"}
    plain = await stored("dead", "list")
    assert "not a CloudEvents 1.0 envelope" in plain.out
    shown = await stored("dead", "show", "2")
    assert shown.out.endswith("\n\\xff\\xfe\n")
    [as_json] = await stored.lines("dead", "show", "1")
    assert as_json["body"] == "nonsense"

    chosen = await stored.lines("dead", "list", "--reason", "missing required", "--type", "b.*")
    assert [letter["number"] for letter in chosen] == [3]
    [counts] = await stored.lines("dead", "stats")
    assert (counts["consumer"], counts["kind"], counts["type"]) == ("persister", "invalid", "b.c")
    assert counts["count"] == 3
    assert "3  persister  invalid  b.c" in (await stored("dead", "stats")).out

    again = await stored("dead", "retry", "1", "77", "2")
    assert again.out == "1 published again\n2 published again\n"
    assert (again.code, again.err) == (
        1,
        "mediabus: no dead letter 77: `mediabus dead list` has them\n",
    )
    await eventually(buried, within=20)  # they are no better than before
    by_reason = await stored("dead", "retry", "--reason", "missing required")
    assert by_reason.out == "3 published again\n"
    await eventually(buried, within=20)
    both = await stored("dead", "discard", "--all", "--kind", "failed")
    assert both.code == 2
    refused = await stored("dead", "discard", "--all", stdin=b"n\n")
    assert refused.code == 130
    kept = await stored("dead", "discard", "--all")  # nobody answers the question
    assert (kept.code, kept.err) == (130, "mediabus: nothing was done\n")
    gone = await stored("dead", "discard", "--all", "--yes")
    assert (gone.code, gone.out.count("deleted")) == (0, 3)
    assert await stored.lines("dead", "list") == []
    assert await pool.fetchval("SELECT count(*) FROM events") == 0


async def test_doctor_finds_nothing_wrong_with_a_whole_mediabus(
    stored: Here, pool: Pool, settings: Settings
) -> None:
    await removed(stored.bus, "Dune")
    await counted(pool, 1)
    async with working(operations_part(stored.bus, pool, settings)):
        outcome = await stored("doctor")
        assert (outcome.code, outcome.err) == (0, "")
        assert "problem" not in outcome.out
        names = {finding["name"] for finding in await stored.lines("doctor")}
        assert await _served(stored.bus) == dict.fromkeys(OPERATIONS, 1)  # as documented
    assert {"NATS", "stream EVENTS", "persister", "media", "downloads", "PostgreSQL"} < names


async def test_doctor_says_what_is_missing_and_what_to_do(here: Here) -> None:
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
    assert "out of reach" in nothing.out


async def test_doctor_sees_that_nobody_stores(here: Here, pool: Pool, settings: Settings) -> None:
    async with working(persister_part(here.bus, pool, settings)):
        await removed(here.bus, "Dune")
        await counted(pool, 1)
    await removed(here.bus, "Alien")

    async def told() -> bool:  # the request of the persister that is gone lives on for a while
        outcome = await here("doctor")
        return outcome.code == 1 and "nobody is asking for them" in outcome.out

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
    assert (outcome.code, outcome.out) == (0, "nothing to do\n")


async def test_who_migrates_is_told_what_is_waited_for() -> None:
    process = await start("migrate", MEDIABUS_DATABASE_URL="postgresql://x@127.0.0.1:1/x")
    try:
        assert process.stderr
        told = await asyncio.wait_for(process.stderr.readline(), timeout=30)
        assert b"waiting for PostgreSQL" in told
    finally:
        process.send_signal(signal.SIGINT)
        await process.communicate()
    assert process.returncode == 130

"""Text of others never controls the terminal: every command, piped and on one."""

import asyncio
import contextlib
import json
import os
import pty
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import click
import msgspec
import pytest
from nats.aio.msg import Msg

from mediabus.consumers.notifier.state import TargetState
from mediabus.consumers.notifier.store import StateStore
from mediabus.main import cli
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.notifier_bucket import ensure_notifier_bucket
from mediabus.runtime.nats.streams import download_status
from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.process.work import Work
from mediabus.runtime.settings import NatsSettings, Settings
from mediabus.schemas.events import DownloadFailed, JobExecuted, NotificationFailed
from mediabus.schemas.identity import Actor, Resource, uuid7
from mediabus.schemas.operations.apps import AppList, AppState
from mediabus.schemas.status import ClientName, ClientStatus, DownloadStatus, ItemId, Phase
from mediabus.schemas.subjects import status_key
from mediabus.wiring.parts import store
from tests.support.commands import PROGRAM, environment, mediabus
from tests.support.eventually import eventually

HOSTILE = (
    "\x1b]0;title\x07\x1b[2J\x1b[8mhidden\x9b31m\x85\u202eevil\u2066\u200b\u2028\r\nforged\x7f"
)
ALLOWED = re.compile(r"\x1b\[[0-9;]*m")
HIDING = re.compile(r"\x1b\[(?:[0-9;]*;)?[578](?:;[0-9;]*)?m")

SAYS_WHAT_OTHERS_SAID: dict[str, list[list[str]]] = {
    "tail": [["--since", "1h", "--no-follow"], ["--since", "1h", "--no-follow", "--json"]],
    "history": [[], ["--json"], ["--count"], ["--count", "--json"], ["--type", HOSTILE]],
    "top": [["--once"]],
    "clients": [[], ["--json"]],
    "apps": [[], ["--json"]],
    "apps connect": [["evil"], [HOSTILE], ["evil", "--url", HOSTILE]],
    "apps import": [["evil", "--since", "1h"], [HOSTILE, "--since", "1h"]],
    "dead list": [[], ["--json"], ["--consumer", HOSTILE]],
    "dead stats": [[], ["--json"]],
    "dead show": [["1"], ["1", "--json"], [HOSTILE]],
    "dead retry": [["1"], ["99"], [HOSTILE]],
    "dead discard": [["99"], ["--reason", HOSTILE, "--yes"]],
    "doctor": [[], ["--json"]],
    "notify list": [[], ["--json"]],
    "notify log": [["evil"], ["evil", "--json"], [HOSTILE]],
    "notify test": [["evil"], [HOSTILE]],
    "notify resend": [["evil", HOSTILE], [HOSTILE, HOSTILE]],
    "replay": [
        ["--since", "1h", "--dry-run"],
        ["--since", "1h", "--to", HOSTILE],
        ["--since", HOSTILE],
    ],
    "publish": [[HOSTILE, "--data", "{}"], ["job.executed", "--data", HOSTILE]],
    "completion": [["bash"], ["zsh"], ["fish"], [HOSTILE]],
    "config check": [[], [HOSTILE]],
    "config schema": [[]],
    "schema jsonschema": [[]],
    "schema asyncapi": [[]],
    "schema markdown": [[]],
}
BEFORE_THE_COMMAND = {
    "up": [["--config", HOSTILE]],
    "service": [["--config", HOSTILE]],
    "monitor": [["--config", HOSTILE]],
    "persist": [["--config", HOSTILE]],
    "notify": [["--config", HOSTILE]],
    "mqtt": [["--config", HOSTILE]],
    "web": [["--config", HOSTILE]],
    "migrate": [["--config", HOSTILE]],
}


def commands(group: click.Group, *before: str) -> Iterator[str]:
    """The names of all commands, as they are typed."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, *before, name)
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield " ".join((*before, name))


def must_be_harmless(output: str, what: Sequence[str]) -> None:
    """Nothing that a terminal obeys, or that turns text round or hides it, but colors."""
    assert not HIDING.search(output), (what, output)
    rest = ALLOWED.sub("", output).replace("\r\n", "\n").replace("\n", "").replace("\t", "")
    assert rest.isprintable(), (what, [c for c in rest if not c.isprintable()], output)
    if "show" in what:  # a body has lines of its own
        return
    assert not any(line.startswith("forged") for line in output.splitlines()), (what, output)


async def on_a_terminal(*args: str) -> str:
    """All that a command writes on a terminal."""
    ours, theirs = pty.openpty()
    loop, written = asyncio.get_running_loop(), bytearray()

    def take() -> None:
        with contextlib.suppress(OSError):
            written.extend(os.read(ours, 1 << 16))

    loop.add_reader(ours, take)
    try:
        process = await asyncio.create_subprocess_exec(
            *PROGRAM,
            *args,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**environment(), "TERM": "xterm"},
        )
        await asyncio.wait_for(process.wait(), timeout=40)
        await asyncio.sleep(0.05)  # what the terminal still holds
        return written.decode(errors="surrogateescape")
    finally:
        loop.remove_reader(ours)
        os.close(ours)
        os.close(theirs)


@pytest.fixture
async def hostile(bus: Bus, pool: Pool, settings: Settings) -> AsyncIterator[Settings]:
    """A mediabus in which everything that others may say is hostile."""
    persisting = asyncio.create_task(store(Work(bus, settings, None, pool)))
    event = DownloadFailed(
        download_id=uuid7(),
        title=HOSTILE,
        client=HOSTILE,
        reason="rejected",
        error_message=HOSTILE,
    )
    about, who = Resource(HOSTILE, HOSTILE), Actor("user", HOSTILE)
    await bus.publish(event, actor=who, resource=about)
    await bus.publish(JobExecuted(job_name=HOSTILE), actor=who, resource=about)
    raw = {
        "specversion": "1.0",
        "id": str(uuid7()),
        "source": HOSTILE,
        "type": HOSTILE,
        "time": "2026-11-22T10:00:00Z",
        "category": HOSTILE,
        "data": {HOSTILE: HOSTILE},
    }
    spread = json.dumps(raw, indent=2, ensure_ascii=False).encode()
    await bus.js.publish("events.a.b.c.-", spread)
    await bus.js.publish("events.a.b.c.-", HOSTILE.encode())
    await bus.js.publish("events.a.b.c.-", json.dumps({**raw, "id": HOSTILE}).encode())
    await show_hostile_clients(bus)
    await show_hostile_apps(bus)
    await show_hostile_target(bus, targets_of(settings))
    await eventually(lambda: pool.fetchval("SELECT count(*) >= 3 FROM events"))
    await eventually(lambda: has_letters(bus))
    yield settings
    persisting.cancel()
    await asyncio.wait([persisting])


async def has_letters(bus: Bus) -> bool:
    return (await bus.js.stream_info("DEAD_LETTERS")).state.messages > 0


async def show_hostile_clients(bus: Bus) -> None:
    bucket = await download_status(bus)
    now = "2026-11-22T10:00:00Z"
    client = {
        "client": "evil",
        "kind": HOSTILE,
        "reachable": False,
        "since": now,
        "reason": "protocol",
        "message": HOSTILE,
        "version": HOSTILE,
    }
    convert = msgspec.convert
    await bucket.put("evil", msgspec.json.encode(convert(client, ClientStatus)))
    for item in ("a", "b"):
        status = {"client": "evil", "item": item, "title": HOSTILE, "phase": Phase.DOWNLOADING}
        value = msgspec.json.encode(convert({**status, "message": HOSTILE}, DownloadStatus))
        await bucket.put(status_key(ClientName("evil"), ItemId(item)), value)


async def show_hostile_apps(bus: Bus) -> None:
    app = AppState(
        name=HOSTILE,
        kind=HOSTILE,
        version=HOSTILE,
        reachable=False,
        reason=HOSTILE,
        error_message=HOSTILE,
    )
    replies = {"apps.list": AppList(items=[app]), "apps.import": app}

    async def answer(message: Msg) -> None:
        await message.respond(msgspec.json.encode(replies[message.subject]))

    for subject in replies:
        await bus.nc.subscribe(subject, cb=answer)


def targets_of(settings: Settings) -> Path:
    """The settings file with the target."""
    return Path(settings.data_dir).with_name("targets.toml")


async def show_hostile_target(bus: Bus, file: Path) -> None:
    command = json.dumps(["/usr/bin/printf", "%s", HOSTILE, "%d"])
    file.write_text(  # noqa: ASYNC240 - a few bytes
        f'[[notify]]\nname = "evil"\nrun = {command}\n', encoding="utf-8"
    )
    event = NotificationFailed(
        target="evil", event_ids=[HOSTILE], attempts=2, error_message=HOSTILE
    )
    await bus.publish(event, actor=Actor("system", "x"), resource=Resource("target", "evil"))
    await ensure_notifier_bucket(bus, NatsSettings())
    state = TargetState(failures=3, reason=HOSTILE)
    await StateStore(bus, "evil").save(state)


async def test_every_command_is_tried() -> None:
    untried = {"secure", "backup", "restore"}  # they say nothing that others said
    tried = SAYS_WHAT_OTHERS_SAID.keys() | BEFORE_THE_COMMAND.keys()
    assert set(commands(cli)) - untried == tried


@pytest.mark.parametrize("command", SAYS_WHAT_OTHERS_SAID)
async def test_no_command_passes_on_what_a_terminal_would_obey(
    hostile: Settings, command: str
) -> None:
    nats = ("--nats", hostile.nats.url or "", "--config", str(targets_of(hostile)))
    url = hostile.database.url or ""
    said = ""
    for options in SAYS_WHAT_OTHERS_SAID[command]:
        args = (*nats, *command.split(), *options)
        outcome = await mediabus(*args, MEDIABUS_DATABASE_URL=url)
        said += outcome.out
        must_be_harmless(outcome.out, args)
        must_be_harmless(outcome.err, args)
        assert "Traceback" not in outcome.err, (args, outcome.err)
        if "--json" in options and outcome.out:
            assert all(json.loads(line) for line in outcome.out.splitlines())
        must_be_harmless(await on_a_terminal(*args), args)
    if command in {"apps", "tail", "history", "dead show", "notify list", "notify log"}:
        assert "forged" in said  # it was asked for what is hostile


async def test_json_output_keeps_the_original_text(hostile: Settings) -> None:
    nats = ("--nats", hostile.nats.url or "")
    outcome = await mediabus(*nats, "history", "--type", "download.failed", "--json")
    assert json.loads(outcome.out)["data"]["title"] == HOSTILE
    outcome = await mediabus(*nats, "dead", "list", "--json")
    assert outcome.out.isascii()


@pytest.mark.parametrize("command", BEFORE_THE_COMMAND)
async def test_an_error_about_the_settings_has_no_escapes(command: str) -> None:
    for options in BEFORE_THE_COMMAND[command]:
        outcome = await mediabus(*options, command)
        assert outcome.code == 2
        assert "forged" in outcome.err
        must_be_harmless(outcome.err, [command])


LOG = """
import logging, sys
from mediabus.runtime.visible import make_output_visible
from mediabus.runtime.process import logs
from mediabus.runtime.settings import LogSettings
make_output_visible()
logs.set_up(LogSettings(format=sys.argv[1]))
hostile = sys.argv[2]
log = logging.getLogger("mediabus.test")
log.warning("said %s", hostile, extra={"reason": hostile, "list": [hostile]})
try:
    raise ValueError(hostile)
except ValueError:
    log.exception(hostile)
"""


@pytest.mark.parametrize("style", ["console", "json"])
async def test_the_log_has_no_escapes(style: str) -> None:
    process = await asyncio.create_subprocess_exec(
        PROGRAM[0], "-c", LOG, style, HOSTILE, stderr=asyncio.subprocess.PIPE, env=environment()
    )
    _, err = await process.communicate()
    assert process.returncode == 0
    said = err.decode()
    assert "hidden" in said
    rest = ALLOWED.sub("", said).replace("\n", "").replace("\t", "")
    assert rest.isprintable()
    assert not HIDING.search(said)
    first = said.splitlines()[0]
    assert first.count("forged") == 3  # its line was not broken


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
async def test_text_that_the_terminal_cannot_print_causes_no_traceback(
    hostile: Settings, encoding: str
) -> None:
    nats = ("--nats", hostile.nats.url or "")
    for command in (("history",), ("tail", "--since", "1h", "--no-follow"), ("dead", "list")):
        outcome = await mediabus(*nats, *command, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
        assert (outcome.code, "Traceback" in outcome.err) == (0, False)

"""Each recipe of docs/notifications.md: its settings load, and it does what it says."""

import re
import socket
import stat
import subprocess
from pathlib import Path
from typing import Any

import jinja2
import msgspec
import pytest
from aiohttp import web

from mediabus.consumers.notifier.run import opened
from mediabus.consumers.notifier.settings import NotifierConfig, TargetSettings, parsed
from mediabus.consumers.notifier.signature import signed
from mediabus.consumers.notifier.targets.port import Message
from mediabus.consumers.notifier.worker import utc_now
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.settings_file import load
from mediabus.schemas import codec
from mediabus.schemas.docs.examples import example
from mediabus.schemas.events import EVENT_TYPES, Event
from tests.support.notifying import JOB, config_of, idle, notifying
from tests.support.receiver import receiving

TEXT = (Path(__file__).parents[2] / "docs" / "notifications.md").read_text(encoding="utf-8")
RECIPES = TEXT.partition("\n## Recipes\n")[2].split("\n### ")[1:]
NUMBERS = range(1, 11)
SECRET = "whsec_" + "QUFB" * 11  # 33 bytes


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def recipe(number: int) -> str:
    found = RECIPES[number - 1]
    assert found.startswith(f"{number}. ")
    return found


def loaded(text: str, directory: Path) -> NotifierConfig:
    """The settings of a recipe, with a secret where it names the file of one."""
    (directory / "webhook.secret").write_text(f"{SECRET}\n")
    file = directory / "mediabus.toml"
    file.write_text(text.replace('"webhook.secret"', f'"{directory}/webhook.secret"'))
    config = parsed(load(str(file), {}))
    assert config is not None
    return config


def test_there_are_ten_recipes() -> None:
    assert len(RECIPES) == len(NUMBERS)


@pytest.mark.parametrize("text", blocks(TEXT, "toml"))
async def test_the_settings_of_each_example_load_and_their_target_opens(
    text: str, tmp_path: Path
) -> None:
    config = loaded(text, tmp_path)
    for target in config.targets:
        async with opened(target, config) as sender:
            assert sender


def test_the_table_has_every_setting_and_its_default() -> None:
    table = TEXT.partition("\n## Settings\n")[2].partition("\n### ")[0]
    cells = re.findall(r"^\| (`[^|]*`) \|([^|]*)\| ", table, re.MULTILINE)
    shown = [name for first, _ in cells for name in re.findall(r"`([a-z_]+)`", first)]
    fields = msgspec.structs.fields(TargetSettings)
    assert sorted(shown) == sorted(field.encode_name for field in fields)
    defaults = {first.strip("`"): default.strip() for first, default in cells}
    assert defaults["timeout"] == f"{TargetSettings(name='x').timeout:g}"


# What the targets of the recipes get, at a receiver in place of their service.
EVENTS: dict[int, tuple[list[str], list[str]]] = {
    1: (["download.failed"], ["download.completed"]),
    2: (["download.completed", "media_file.imported"], ["download.failed"]),
    3: (["download_client.unreachable", "download_client.recovered"], ["download.failed"]),
    4: (["media_file.imported"], ["download.failed"]),
    5: (["download.failed", "job.failed"], ["download.completed"]),
    6: (["download.failed", "download.completed"], ["media_item.added"]),
    7: (["download.completed"], ["download.failed"]),
    8: (["download.completed"], ["media_item.added"]),
    9: (["download.failed"], ["download.completed"]),
    10: (["download.failed", "media_item.added"], []),
}


@pytest.mark.parametrize("number", NUMBERS)
def test_a_recipe_matches_the_events_that_it_names(number: int, tmp_path: Path) -> None:
    (target,) = loaded("".join(blocks(recipe(number), "toml")), tmp_path).targets
    wanted, unwanted = EVENTS[number]
    assert all(target.rule.matches(example(EVENT_TYPES[name])) for name in wanted)
    assert not any(target.rule.matches(example(EVENT_TYPES[name])) for name in unwanted)


@pytest.mark.parametrize("number", [1, 4, 6, 7, 9, 10])
async def test_a_recipe_delivers_through_nats(bus: Bus, number: int, tmp_path: Path) -> None:
    """With its rules and options, and a receiver in place of its service."""
    (original,) = loaded("".join(blocks(recipe(number), "toml")), tmp_path).targets
    settings: dict[str, Any] = msgspec.to_builtins(original.settings)
    for key in ("url", "webhook", "run", "secret_file", "quiet_until"):
        settings.pop(key, None)
    settings = {key: value for key, value in settings.items() if value is not None}
    if "digest" in settings:
        settings["digest"] = "0.1s"
    settings.pop("quiet", None)  # the test may run at night
    wanted = EVENTS[number][0]
    async with receiving() as receiver:
        config = config_of({**settings, "webhook": receiver.url})
        async with notifying(bus, config):
            for name in wanted:
                await bus.publish(event_of(name), actor=JOB)
            await idle(bus, original.name)
    got = [event["type"] for one in receiver.accepted for event in one.events]
    assert sorted(got) == sorted(wanted)


def event_of(name: str) -> Event:
    event = example(EVENT_TYPES[name]).event
    assert event is not None
    return event


async def test_the_receiver_in_python_verifies() -> None:
    (source,) = blocks(recipe(6), "python")
    names: dict[str, Any] = {"SECRET": SECRET, "web": web}
    exec(compile(source, "recipe", "exec"), names)
    application = web.Application()
    application.router.add_post("/hook", names["hook"])
    runner = web.AppRunner(application)
    await runner.setup()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        await web.SockSite(runner, listener).start()
        port = listener.getsockname()[1]
        config = config_of(
            {"name": "it", "webhook": f"http://127.0.0.1:{port}/hook", "secret": SECRET}
        )
        async with opened(config.targets[0], config) as sender:
            answer = await sender.send(
                Message([example(EVENT_TYPES["download.failed"])], "", "", utc_now())
            )
        await runner.cleanup()
    assert answer == "HTTP 200"


def test_the_program_of_recipe_seven_reads_the_title(tmp_path: Path) -> None:
    (source,) = blocks(recipe(7), "sh")
    logger = tmp_path / "logger"
    logger.write_text('#!/bin/sh\necho "$@"\n')
    logger.chmod(logger.stat().st_mode | stat.S_IXUSR)
    body = codec.encode(example(EVENT_TYPES["download.completed"]))
    done = subprocess.run(
        ["/bin/sh", "-c", source],
        input=body,
        capture_output=True,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin:/usr/local/bin"},
        check=True,
    )
    assert done.stdout == b"mediabus: Dune completed\n"


def test_the_templates_of_recipe_eight_render() -> None:
    (text,) = blocks(recipe(8), "yaml")
    sandbox = jinja2.Environment(autoescape=False)  # as Home Assistant renders them
    event = msgspec.json.decode(codec.encode(example(EVENT_TYPES["download.completed"])))
    templates = re.findall(r'"(\{\{.*?)"$', text, re.MULTILINE)
    rendered = [sandbox.from_string(one).render(trigger={"json": event}) for one in templates]
    assert rendered == ["True", "Dune completed"]


def test_a_signature_has_all_parts() -> None:
    headers = signed([SECRET], "id", 1, b"{}")
    assert list(headers) == ["webhook-id", "webhook-timestamp", "webhook-signature"]

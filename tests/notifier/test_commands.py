"""`mediabus notify list`, `test`, `log` and `resend`, as people run them."""

import json
from pathlib import Path
from typing import Any

import pytest

from mediabus.backup.streams import streams_to_save
from mediabus.consumers.notifier.settings import parsed
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.notifier_bucket import ensure_notifier_bucket
from mediabus.runtime.process.file_permissions import exposed
from mediabus.runtime.settings import NatsSettings, Settings, SettingsError
from mediabus.runtime.settings_file import load
from tests.support.commands import Outcome, mediabus
from tests.support.eventually import eventually
from tests.support.notifying import events_in, idle, notifying, publish
from tests.support.receiver import Receiver, receiving, status

TOKEN = "sEcrEt-t0ken-0123456789"


def settings_file(directory: Path, receiver: Receiver) -> Path:
    file = directory / "mediabus.toml"
    file.write_text(
        f"""
[notifier]
allowed_hosts = ["127.0.0.1"]
retry_delays = ["1h"]
[[notify]]
name = "hook"
webhook = "{receiver.url}/{TOKEN}"
events = ["job.*"]
[[notify]]
name = "off"
run = "/bin/true"
enabled = false
"""
    )
    return file


async def run(file: Path, nats_url: str, *args: str) -> Outcome:
    return await mediabus("--config", str(file), "--nats", nats_url, "notify", *args)


async def test_list_shows_a_target_that_waits_and_no_secret(
    bus: Bus, nats_url: str, tmp_path: Path
) -> None:
    async with receiving() as receiver:
        file = settings_file(tmp_path, receiver)
        fresh = await run(file, nats_url, "list")
        receiver.always = status(500, text=f"at {receiver.url}/{TOKEN}")
        config = parsed(load(str(file), {}))
        assert config is not None
        async with notifying(bus, config):
            await publish(bus, "a", "b")
            await eventually(lambda: events_in(bus, "notification.failed"))
            shown = await run(file, nats_url, "list", "--json")
            text = await run(file, nats_url, "list")
    hook, off = (json.loads(line) for line in shown.out.splitlines())
    assert fresh.out.splitlines()[0].split()[:4] == ["hook", "webhook", "ok", "0"]
    assert (hook["state"], hook["failures"]) == ("retrying", 1)
    assert hook["waiting"] >= 2
    assert hook["reason"].startswith("HTTP 500 at …")
    assert off["state"] == "disabled"
    assert TOKEN not in shown.out + text.out


async def test_test_sends_a_message_and_shows_the_answer(nats_url: str, tmp_path: Path) -> None:
    async with receiving() as receiver:
        file = settings_file(tmp_path, receiver)
        done = await run(file, nats_url, "test", "hook")
        receiver.answers = [status(410, text="gone")]
        failed = await run(file, nats_url, "test", "hook")
        unknown = await run(file, nats_url, "test", "phone")
    assert (done.code, done.out) == (0, "hook accepted the message: HTTP 204\n")
    assert receiver.received[0].events[0]["data"] == {"job_name": "notify test"}
    assert failed.code == 1
    assert "hook did not accept the message: HTTP 410 gone" in failed.err
    assert unknown.code == 2
    assert "there are hook, off" in unknown.err


async def test_log_shows_deliveries_and_resend_makes_one(
    bus: Bus, nats_url: str, tmp_path: Path
) -> None:
    async with receiving() as receiver:
        file = settings_file(tmp_path, receiver)
        config = parsed(load(str(file), {}))
        assert config is not None
        async with notifying(bus, config):
            [sent] = await publish(bus, "a")
            await idle(bus, "hook")
        again = await run(file, nats_url, "resend", "hook", str(sent.id))
        missing = await run(file, nats_url, "resend", "hook", "0198c1f3")
        log = await run(file, nats_url, "log", "hook")
        as_json = await run(file, nats_url, "log", "hook", "--json")
        receiver.answers = [status(503)]
        refused = await run(file, nats_url, "resend", "hook", str(sent.id))
    assert again.out == "hook accepted the message: HTTP 204\n"
    assert receiver.jobs == ["a", "a"]
    assert [one.webhook_id for one in receiver.received] == [str(sent.id)] * 3
    assert missing.code == 1
    assert "the stream has no event 0198c1f3" in missing.err
    assert [line.split()[1:4] for line in log.out.splitlines()] == [
        ["delivered", "HTTP", "204"]
    ] * 2
    assert json.loads(as_json.out.splitlines()[0])["data"]["event_ids"] == [str(sent.id)]
    assert refused.code == 1
    assert len(await events_in(bus, "notification.failed")) == 1


async def test_without_targets_the_commands_say_what_to_add(nats_url: str) -> None:
    for args in (("notify", "list"), ("notify",)):
        outcome = await mediabus("--nats", nats_url, *args)
        assert outcome.code == 2
        assert "add [[notify]] to the settings" in outcome.err


@pytest.mark.parametrize(
    ("target", "key"),
    [
        ({}, r"notify\[0\].name: it must be given"),
        ({"name": "a b", "run": "/x"}, r"notify\[0\].name"),
        ({"name": "x"}, r"notify\[0\].url: give exactly one of url, webhook and run"),
        ({"name": "x", "run": "/x", "webhook": "http://x"}, "exactly one"),
        ({"name": "x", "run": "/x", "urls": "y"}, r"notify\[0\].urls: .*did you mean url"),
        ({"name": "x", "run": "/x", "events": ["a b"]}, r"notify\[0\].events: 'a b' matches"),
        ({"name": "x", "run": "/x", "events": []}, r"notify\[0\].events"),
        ({"name": "x", "run": "/x", "where": {"sql": "1"}}, r"notify\[0\].where: unknown dialect"),
        ({"name": "x", "run": "/x", "digest": "10"}, r"notify\[0\].digest: '10' is not"),
        ({"name": "x", "run": "/x", "digest": "25:00"}, r"notify\[0\].digest: '25:00' is not a"),
        ({"name": "x", "run": "/x", "quiet": "22"}, r"notify\[0\].quiet"),
        ({"name": "x", "run": "/x", "hold": "soon"}, r"notify\[0\].hold"),
        ({"name": "x", "run": "/x", "rate": "0/h"}, r"notify\[0\].rate"),
        ({"name": "x", "run": "/x", "template": "{{"}, r"notify\[0\].template: .*not valid"),
        ({"name": "x", "run": "/x", "severity": "bad"}, r"notify\[0\].severity.*info, warning"),
        (
            {"name": "x", "run": "/x", "except": "bad"},
            r"notify\[0\].except: .*it takes info, warning, error",
        ),
        ({"name": "x", "run": "/x", "secret": "whsec_AAAA"}, "only a webhook has a secret"),
        ({"name": "x", "webhook": "http://x", "secret": "whsec_AAAA"}, "24 to 64 bytes"),
        ({"name": "x", "webhook": "http://x", "secret": "p%ssw"}, "`whsec_` and base64$"),
        ({"name": "x", "webhook": "http://x", "secret_file": "/nowhere"}, r"secret: .*/nowhere"),
    ],
)
def test_a_bad_target_is_named_with_its_key(target: dict[str, Any], key: str) -> None:
    with pytest.raises(SettingsError, match=key):
        parsed(Settings(notify=[target]))


def test_two_targets_of_one_name_are_refused() -> None:
    targets = [{"name": name, "run": "/x"} for name in ("a-b", "a_b")]
    with pytest.raises(SettingsError, match="two are named"):
        parsed(Settings(notify=targets))


def test_a_variable_gives_a_target_its_url(tmp_path: Path) -> None:
    file = tmp_path / "mediabus.toml"
    file.write_text('[[notify]]\nname = "phone"\n')
    config = parsed(load(str(file), {"MEDIABUS_NOTIFY_PHONE_URL": "json://127.0.0.1"}))
    assert config is not None
    assert config.targets[0].settings.url == "json://127.0.0.1"


@pytest.mark.parametrize("setting", ["retry_delays", "give_up_after", "allowed_hosts"])
def test_a_bad_setting_of_the_notifier_is_named(setting: str, tmp_path: Path) -> None:
    file = tmp_path / "mediabus.toml"
    value = '"soon"' if setting == "give_up_after" else '["http://x/"]'
    file.write_text(f'[notifier]\n{setting} = {value}\n[[notify]]\nname = "x"\nrun = "/x"\n')
    with pytest.raises(SettingsError, match=rf"notifier\.{setting}"):
        parsed(load(str(file), {}))


@pytest.mark.parametrize(
    "line", ['url = "json://host/t0ken"', 'webhook = "http://host/t0ken"', 'run = "/bin/true"']
)
def test_a_file_with_the_token_of_a_target_should_be_private(tmp_path: Path, line: str) -> None:
    file = tmp_path / "mediabus.toml"
    file.write_text(f'[[notify]]\nname = "x"\n{line}\n')
    file.chmod(0o644)
    warnings = exposed(str(file), load(str(file), {}))
    assert bool(warnings) is ("t0ken" in line)


async def test_a_backup_has_the_state_of_the_targets(bus: Bus) -> None:
    before = await streams_to_save(bus)
    await ensure_notifier_bucket(bus, NatsSettings())
    assert await streams_to_save(bus) == ("KV_notifier", *before)

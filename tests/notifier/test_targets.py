"""The kinds of targets, against real receivers: HTTP, SMTP, programs."""

import asyncio
import base64
import contextlib
import dataclasses
import datetime
import json
import stat
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import standardwebhooks
from aiohttp import web
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from mediabus.consumers.notifier.message import hidden
from mediabus.consumers.notifier.run import opened
from mediabus.consumers.notifier.targets.port import Failed, Message
from mediabus.consumers.notifier.targets.program import MAX_OUTPUT
from mediabus.consumers.notifier.targets.webhook import retry_after
from mediabus.runtime.settings import SettingsError
from mediabus.schemas.docs.examples import example
from mediabus.schemas.events import EVENT_TYPES
from mediabus.schemas.identity import uuid7
from tests.clients.test_tls import certify
from tests.support.eventually import eventually
from tests.support.notifying import config_of
from tests.support.ports import free_port
from tests.support.receiver import closes, receiving, slow, status

NOW = datetime.datetime.now(datetime.UTC)
OLD, NEW = (f"whsec_{base64.b64encode(bytes([n]) * 32).decode()}" for n in (1, 2))
ONE = example(EVENT_TYPES["download.failed"])
TWO = msgspec.structs.replace(example(EVENT_TYPES["download.completed"]), id=uuid7())
MESSAGE = Message([ONE], "mediabus: download failed", "Dune failed\nin home", NOW)


@pytest.fixture(autouse=True)
def attempt_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judges refuse a signature of more than five minutes ago, and modules are imported early."""
    now = datetime.datetime.now(datetime.UTC)
    monkeypatch.setitem(globals(), "NOW", now)
    monkeypatch.setitem(globals(), "MESSAGE", dataclasses.replace(MESSAGE, now=now))


async def sent(target: dict[str, Any], message: Message | None = None, **settings: Any) -> str:
    """Send a message to a target, and return its answer without secrets."""
    config = config_of({"name": "it", **target}, **settings)
    async with opened(config.targets[0], config) as sender:
        try:
            return await sender.send(message or MESSAGE)
        except Failed as error:
            raise hidden(config.targets[0], error) from error


async def test_a_webhook_gets_a_cloudevent_that_standardwebhooks_verifies() -> None:
    async with receiving() as receiver:
        assert await sent({"webhook": receiver.url, "secret": NEW}) == "HTTP 204"
    [got] = receiver.received
    assert standardwebhooks.Webhook(NEW).verify(got.body.decode(), got.headers) == got.events[0]
    assert got.webhook_id == str(ONE.id) == got.events[0]["id"]
    assert got.headers["Content-Type"] == "application/cloudevents+json"
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(OLD).verify(got.body.decode(), got.headers)


@pytest.mark.parametrize("secret", [OLD, NEW])
async def test_during_a_rotation_both_secrets_verify(secret: str, tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_text(f"{NEW}\n{OLD}\n")
    async with receiving() as receiver:
        await sent({"webhook": receiver.url, "secret_file": str(file)})
    [got] = receiver.received
    standardwebhooks.Webhook(secret).verify(got.body.decode(), got.headers)


async def test_a_digest_is_a_batch_of_cloudevents_with_an_id_of_its_own() -> None:
    message = Message([ONE, TWO], "two", "two", NOW)
    async with receiving() as receiver:
        await sent({"webhook": receiver.url, "secret": NEW}, message)
    [got] = receiver.received
    standardwebhooks.Webhook(NEW).verify(got.body.decode(), got.headers)
    assert [one["id"] for one in got.events] == [str(ONE.id), str(TWO.id)]
    assert got.headers["Content-Type"] == "application/cloudevents-batch+json"
    assert got.webhook_id == message.id == Message([ONE, TWO], "", "", NOW).id
    assert got.webhook_id != Message([TWO, ONE], "", "", NOW).id


@pytest.mark.parametrize(
    ("answer", "reason", "is_final"),
    [
        (status(500, text="broken"), "HTTP 500 broken", False),
        (status(302, {"Location": "http://127.0.0.1:1/"}), "HTTP 302", False),
        (status(401), "HTTP 401", False),
        (status(404), "HTTP 404", False),
        (status(400, text="no"), "HTTP 400 no", True),
        (status(410), "HTTP 410", True),
        (closes, "cannot reach 127.0.0.1: Server disconnected", False),
        (slow(5), "no answer within 0.3 s: it may have the message", False),
    ],
    ids=["500", "redirect", "401", "404", "400", "410", "closes", "slow"],
)
async def test_a_webhook_fails_with_a_reason(answer: Any, reason: str, is_final: bool) -> None:
    async with receiving() as receiver:
        receiver.answers = [answer]
        with pytest.raises(Failed) as failed:
            await sent({"webhook": receiver.url, "timeout": 0.3})
    assert failed.value.reason == reason
    assert failed.value.is_final is is_final
    assert len(receiver.received) == 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 5 ", 5.0),
        ("soon", None),
        ("-5", None),
        (None, None),
        ("9" * 30, 999_999_999),
    ],
)
def test_retry_after_in_seconds(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, NOW) == seconds


def test_retry_after_as_a_date() -> None:
    now = datetime.datetime(2026, 11, 28, 10, tzinfo=datetime.UTC)
    assert retry_after("Sat, 28 Nov 2026 10:01:30 GMT", now) == 90
    assert retry_after("Sat, 28 Nov 2026 09:00:00 GMT", now) == 0


async def test_a_certificate_that_is_not_valid_is_a_failure_and_a_trusted_one_is_not(
    tmp_path: Path,
) -> None:
    mine, other = certify(tmp_path / "a", "127.0.0.1"), certify(tmp_path / "b", "127.0.0.1")
    async with receiving(tls=mine.context()) as receiver:
        with pytest.raises(Failed, match=r"the certificate of 127\.0\.0\.1 is not valid"):
            await sent({"webhook": receiver.url, "tls_ca": str(other.authority)})
        assert receiver.received == []
        assert await sent({"webhook": receiver.url, "tls_ca": str(mine.authority)}) == "HTTP 204"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"])
async def test_a_private_address_gets_nothing_unless_the_settings_allow_it(host: str) -> None:
    async with receiving() as receiver:
        url = receiver.url.replace("127.0.0.1", host)
        with pytest.raises(Failed, match=r"\[notifier\] allowed_hosts|cannot reach"):
            await sent({"webhook": url}, allowed_hosts=["192.168.1.5"])
        assert receiver.received == []
        assert await sent({"webhook": receiver.url}, allowed_hosts=["127.0.0.0/8"]) == "HTTP 204"


async def test_no_reason_shows_the_secret_or_the_path_of_a_webhook() -> None:
    async with receiving() as receiver:
        url = f"{receiver.url}/sEcrEt-t0ken-0123456789"
        receiver.answers = [status(500, text=f"bad {NEW} at {url}\x1b[31m")]
        with pytest.raises(Failed) as failed:
            await sent({"webhook": url, "secret": NEW})
    assert failed.value.reason.startswith("HTTP 500 bad … at …")
    assert failed.value.reason.isprintable()


async def test_apprise_posts_json() -> None:
    async with receiving() as receiver:
        answer = await sent({"url": receiver.url.replace("http://", "json://")})
        receiver.answers = [status(500)]
        with pytest.raises(Failed, match="500"):
            await sent({"url": receiver.url.replace("http://", "json://")})
    assert answer == "accepted"
    body = json.loads(receiver.received[0].body)
    assert (body["title"], body["message"], body["type"]) == (
        MESSAGE.title,
        MESSAGE.text,
        "failure",
    )


class Inbox:
    """Keeps the mails of aiosmtpd."""

    def __init__(self) -> None:
        self.mails: list[str] = []
        self.refuses = False

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        if self.refuses:
            return "451 try again later"
        self.mails.append(
            (envelope.content or b"").decode() if isinstance(envelope.content, bytes) else ""
        )
        return "250 OK"


async def test_apprise_sends_a_mail_and_reports_one_that_is_refused() -> None:
    inbox, port = Inbox(), free_port()
    controller = Controller(inbox, hostname="127.0.0.1", port=port)
    await asyncio.to_thread(controller.start)
    url = f"mailto://127.0.0.1:{port}?from=bus@example.org&to=me@example.org&mode=insecure&smtp=127.0.0.1"
    try:
        assert await sent({"url": url}) == "accepted"
        inbox.refuses = True
        with pytest.raises(Failed):
            await sent({"url": url})
    finally:
        await asyncio.to_thread(controller.stop)
    assert "Subject: mediabus: download failed" in inbox.mails[0]
    assert "Dune failed\r\nin home" in inbox.mails[0]


async def test_an_unknown_apprise_url_is_refused_without_showing_it() -> None:
    with pytest.raises(SettingsError) as refused:
        await sent({"url": "nosuch://t0ken@host"})
    assert "Apprise does not know such a URL" in str(refused.value)
    assert "t0ken" not in str(refused.value)


def program(directory: Path, text: str) -> list[str]:
    file = directory / "program.py"
    file.write_text(f"#!{sys.executable}\n{text}")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return [str(file), str(directory / "out")]


def written(run: list[str]) -> str:
    return Path(run[1]).read_text()


def is_gone(process: int) -> bool:
    """Whether a process has ended. A dead one may wait for its parent."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def test_a_program_reads_the_event_in_a_clean_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDIABUS_DATABASE_PASSWORD", "secret")
    run = program(
        tmp_path,
        "import json, os, sys\n"
        "json.dump([json.load(sys.stdin), dict(os.environ), os.getcwd()], open(sys.argv[1], 'w'))",
    )
    assert await sent({"run": run}) == "exit status 0"
    event, environment, folder = json.loads(written(run))
    assert event["id"] == str(ONE.id)
    assert environment.keys() - {"LC_CTYPE"} == {
        "PATH",
        "LANG",
        "MEDIABUS_ID",
        "MEDIABUS_TYPE",
        "MEDIABUS_COUNT",
        "MEDIABUS_TEXT",
    }
    assert folder == "/"


async def test_a_program_that_reads_nothing_and_writes_a_lot_is_no_problem(tmp_path: Path) -> None:
    large = msgspec.structs.replace(ONE, extensions={"x": "y" * 500_000})
    message = Message([large], "t", "t", NOW)
    run = program(tmp_path, "print('x' * 5_000_000)\nraise SystemExit(3)")
    config = config_of({"name": "it", "run": run})
    async with opened(config.targets[0], config) as sender:
        with pytest.raises(Failed, match="status 3") as failed:
            await sender.send(message)
    assert len(failed.value.reason) < MAX_OUTPUT + 100


async def test_a_program_over_its_time_is_killed_with_its_children(tmp_path: Path) -> None:
    run = program(
        tmp_path,
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "open(sys.argv[1], 'w').write(str(child.pid))\n"
        "time.sleep(60)",
    )
    with pytest.raises(Failed, match=r"did not end within 1\.5 s"):
        await sent({"run": run, "timeout": 1.5})
    await eventually(lambda: is_gone(int(written(run))))


@pytest.mark.parametrize("run", ["relative/program", "", [], ["ls"]])
async def test_a_program_without_an_absolute_path_is_refused(run: Any) -> None:
    with pytest.raises(SettingsError, match="absolute path"):
        await sent({"run": run})


async def test_a_program_that_is_missing_is_a_failure() -> None:
    with pytest.raises(Failed, match="cannot run /nonexistent: No such file"):
        await sent({"run": "/nonexistent argument"})


async def test_an_apprise_target_that_hangs_takes_no_thread_of_another() -> None:
    release = asyncio.Event()

    async def hangs(_request: web.Request, _body: bytes) -> web.Response:
        await release.wait()
        return web.Response()

    async with receiving() as dead, receiving() as alive:
        dead.always = hangs
        target = {"name": "it", "url": dead.url.replace("http", "json", 1), "timeout": 0.3}
        config = config_of(target)
        async with opened(config.targets[0], config) as sender:
            with pytest.raises(Failed, match=r"no answer within 0\.3 s"):
                await sender.send(MESSAGE)
            with pytest.raises(Failed, match="the last message still hangs"):
                await sender.send(MESSAGE)
            assert await sent({"url": alive.url.replace("http", "json", 1)}) == "accepted"
            release.set()

            async def is_accepted() -> str | None:
                with contextlib.suppress(Failed):
                    return await sender.send(MESSAGE)
                return None

            assert await eventually(is_accepted) == "accepted"

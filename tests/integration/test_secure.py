"""What `mediabus secure` makes: who may do what in NATS, over TLS, and how a refusal reads."""

import asyncio
import contextlib
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig

from mediabus.runtime.nats.bus import Bus, CannotConnect, PublishFailed, connect
from mediabus.runtime.nats.client import NotAllowed
from mediabus.runtime.nats.credentials import public_key_of
from mediabus.runtime.nats.streams import ensure_streams
from mediabus.runtime.settings import NatsSettings, SettingsError
from mediabus.schemas import codec
from mediabus.schemas.events import JobExecuted
from mediabus.schemas.identity import Actor
from mediabus.schemas.subjects import token
from mediabus.service.ingest.serve import serve_keys
from tests.support.commands import mediabus
from tests.support.eventually import eventually
from tests.support.secured import SecuredNats, nats_errors, secured_nats
from tests.support.servers import NatsServer


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[SecuredNats]:
    with secured_nats(tmp_path) as server:
        yield server


STREAMS = "$JS.API"
API = "$JS.mediabus.API"
MAY: dict[str, list[str]] = {
    "service": [
        "events.a",
        "replay.a",
        f"{STREAMS}.STREAM.CREATE.EVENTS",
        f"{STREAMS}.STREAM.UPDATE.EVENTS",
    ],
    "monitor": [
        "events.a",
        "$KV.download_status.a",
        f"{API}.STREAM.INFO.KV_download_status",
        f"{API}.STREAM.PURGE.KV_download_status",
    ],
    "persister": [
        "dead_letters.persister.invalid",
        f"{API}.CONSUMER.DURABLE.CREATE.EVENTS.persister",
        "$JS.ACK.EVENTS.persister.1.2.3.4.5",
    ],
    "notify": [
        "events.a",
        "$KV.notifier.phone",
        f"{API}.DIRECT.GET.EVENTS",
        f"{API}.CONSUMER.DURABLE.CREATE.EVENTS.notify-phone",
        "$JS.ACK.EVENTS.notify-phone.1.2.3.4.5",
        "dead_letters.notify-phone.rejected",
    ],
    "publisher": ["events.a", "media.create", "downloads.initiate", "history.list", "$SRV.INFO"],
    "program-hook": ["events.a", "media.create", "downloads.initiate", "history.list"],
    "user-42": ["events.a", "media.create", "history.list", f"{API}.DIRECT.GET.EVENTS"],
    "viewer": [
        "history.list",
        "media.list",
        f"{API}.STREAM.INFO.EVENTS",
        f"{API}.DIRECT.GET.EVENTS",
    ],
    "viewer-tv": ["history.list", f"{API}.DIRECT.GET.DEAD_LETTERS"],
    "consumer-mine": [
        f"{API}.CONSUMER.DURABLE.CREATE.EVENTS.mine",
        f"{API}.CONSUMER.MSG.NEXT.REPLAY.mine",
        "$JS.ACK.EVENTS.mine.1.2.3.4.5",
        "dead_letters.mine.failed",
    ],
}
NOBODY_MAY = [
    *(
        f"{api}.{call}"
        for api in (API, STREAMS)
        for call in (
            "STREAM.PURGE.EVENTS",
            "STREAM.MSG.DELETE.EVENTS",
            "CONSUMER.DELETE.EVENTS.persister",
            "STREAM.LIST",
            "ACCOUNT.INFO",
        )
    ),
    "$SYS.REQ.SERVER.PING",
    "anything.else",
]
NO_STREAMS = [
    f"{STREAMS}.STREAM.INFO.EVENTS",
    f"{STREAMS}.STREAM.DELETE.EVENTS",
    f"{API}.STREAM.DELETE.EVENTS",
    f"{API}.STREAM.CREATE.EVENTS",
    f"{API}.STREAM.UPDATE.EVENTS",
    f"{API}.CONSUMER.CREATE.EVENTS",
    f"{API}.CONSUMER.DURABLE.CREATE.EVENTS.other",
    "in.user.42.media.create",
    "mediabus.consumers.persister.EVENTS.persister",
]
MAY_NOT: dict[str, list[str]] = {
    "service": ["$KV.download_status.a", f"{STREAMS}.CONSUMER.MSG.NEXT.EVENTS.persister"],
    "monitor": ["media.create", "dead_letters.persister.invalid", *NO_STREAMS],
    "persister": [
        "events.a",
        "replay.a",
        "media.create",
        "$JS.ACK.EVENTS.other.1.2.3.4.5",
        *NO_STREAMS,
    ],
    "notify": [
        "media.create",
        "replay.a",
        "$KV.download_status.a",
        f"{API}.CONSUMER.DURABLE.CREATE.EVENTS.persister",
        f"{API}.CONSUMER.MSG.NEXT.EVENTS.persister",
        "$JS.ACK.EVENTS.persister.1.2.3.4.5",
        "dead_letters.persister.invalid",
        *(subject for subject in NO_STREAMS if not subject.endswith(".EVENTS.other")),
    ],
    "publisher": [
        f"{API}.STREAM.INFO.EVENTS",
        "$KV.download_status.a",
        "dead_letters.persister.invalid",
        "$JS.ACK.EVENTS.persister.1.2.3.4.5",
        *NO_STREAMS,
    ],
    "program-hook": [f"{API}.DIRECT.GET.EVENTS", *NO_STREAMS],
    "user-42": ["$KV.download_status.a", "dead_letters.persister.invalid", *NO_STREAMS],
    "viewer": [
        "events.a",
        "media.create",
        "media.delete",
        "downloads.cancel",
        "$KV.download_status.a",
        f"{API}.CONSUMER.DURABLE.CREATE.EVENTS.persister",
        f"{API}.CONSUMER.MSG.NEXT.EVENTS.persister",
        "$JS.ACK.EVENTS.persister.1.2.3.4.5",
        *NO_STREAMS,
    ],
    "viewer-tv": ["events.a", "media.create", *NO_STREAMS],
    "consumer-mine": [
        "events.a",
        "media.create",
        "dead_letters.persister.failed",
        f"{API}.CONSUMER.MSG.NEXT.EVENTS.persister",
        "$JS.ACK.EVENTS.persister.1.2.3.4.5",
        *NO_STREAMS,
    ],
}
MAY_HEAR = {
    "service": ["media.create", "downloads.*", "$SRV.INFO", "in.*.*.media.create"],
    "monitor": ["mediabus.monitor.look.*"],
    "persister": ["history.list", "$SRV.PING.a"],
    "user-42": ["events.>"],
    "viewer": ["events.>"],
    "viewer-tv": ["events.>", "$KV.download_status.>"],
}
MAY_NOT_HEAR = {
    "service": ["events.>", "history.list", "dead_letters.>"],
    "monitor": ["media.create", "events.>"],
    "persister": ["media.create", "events.>", "$KV.download_status.>"],
    "notify": ["events.>", "media.create", "$KV.notifier.>"],
    "publisher": ["events.>", "media.create", "$SRV.INFO"],
    "program-hook": ["events.>", "in.>"],
    "user-42": ["media.create", "in.>", "dead_letters.>"],
    "viewer": ["media.create", "history.list", "dead_letters.>"],
    "viewer-tv": ["in.>", "dead_letters.>"],
    "consumer-mine": ["events.>", "in.>"],
}


async def is_let(bus: Bus, subject: str) -> bool:
    """Whether the user may publish there; each answer but a refusal means yes."""
    try:
        await bus.nc.request(subject, b"", timeout=1)
    except NotAllowed as error:
        return subject not in str(error)
    except NatsError:  # no server, or no answer
        return True
    return True


@pytest.mark.parametrize("role", MAY)
async def test_a_role_may_do_its_work_and_nothing_else(
    secured: SecuredNats, role: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with connect(secured.settings(role), name=role, wait=10) as bus:
        asked = [*MAY[role], *MAY_NOT[role], *NOBODY_MAY]
        assert [subject for subject in asked if await is_let(bus, subject)] == MAY[role]
        refused = {*MAY_NOT_HEAR[role], "_INBOX.>", ">"}
        for subject in (*MAY_HEAR.get(role, ()), *refused):
            await bus.nc.subscribe(subject)
        await bus.nc.flush()
        words = 'violation for subscription to "([^"]*)"'
        expected = {subject.lower() for subject in refused}
        await eventually(lambda: expected <= set(re.findall(words, nats_errors(caplog))))
        assert set(re.findall(words, nats_errors(caplog))) == expected


async def test_a_connection_without_a_key_or_tls_is_refused(
    secured: SecuredNats, nats: NatsServer
) -> None:
    mine = secured.settings("viewer")
    trusting = NatsSettings(url=secured.url, tls_ca=mine.tls_ca)
    refused = [
        (trusting, "Authorization Violation"),
        (NatsSettings(url=secured.url, nkey_seed_file=mine.nkey_seed_file), "CERTIFICATE_VERIFY"),
        (NatsSettings(url=nats.url, tls_ca=mine.tls_ca), "does not offer TLS"),
    ]
    for settings, why in refused:
        with pytest.raises(CannotConnect, match=why):
            async with connect(settings, name="nobody", wait=1):
                pass


@pytest.mark.parametrize("content", [b"", b"SUxxx", b"\xff", b"not a seed at all"])
async def test_a_file_without_a_seed_is_named(tmp_path: Path, content: bytes) -> None:
    seed = tmp_path / "seed"
    for path, key in ((seed, "nkey_seed_file"), (tmp_path / "none", "nkey_seed_file")):
        seed.write_bytes(content)
        with pytest.raises(SettingsError, match=key):
            async with connect(NatsSettings(nkey_seed_file=str(path)), name="a"):
                pass
    with pytest.raises(SettingsError, match="tls_ca"):
        async with connect(NatsSettings(tls_ca=str(seed)), name="a"):
            pass


async def test_a_refused_command_prints_one_line(secured: SecuredNats) -> None:
    viewer, publisher = secured.variables("viewer"), secured.variables("publisher")
    said = ("publish", "job.executed", "--data", '{"job_name": "a"}')
    async with connect(secured.settings("service"), name="service", wait=10) as bus:
        await ensure_streams(bus, NatsSettings())
        async with serve_keys(bus):
            assert (await mediabus(*said, stdin=b"", **publisher)).code == 0
    seen = await mediabus("tail", "--since", "1h", "--no-follow", stdin=b"", **viewer)
    assert seen.out.count("\n") == 1
    monitor = secured.variables("monitor")
    api = "$JS.mediabus.API"
    cases = [
        (said, viewer, "does not let this user publish to events.system.job.executed.-"),
        (said, publisher, "NATS has no stream EVENTS yet: start mediabus"),
        (("tail",), publisher, f"does not let this user ask {api}.STREAM.INFO.EVENTS"),
        (("tail", "--since", "1h"), monitor, f"ask {api}.DIRECT.GET.EVENTS"),
        (("dead", "list"), publisher, f"does not let this user ask {api}.STREAM.INFO.DEAD"),
        (("history",), monitor, "does not let this user ask history.list"),
        (("top", "--once"), publisher, f"not let this user ask {api}.STREAM.INFO.KV_download"),
    ]
    for command, variables, words in cases:
        began = time.monotonic()
        outcome = await mediabus(*command, stdin=b"", **variables)
        assert (outcome.code, outcome.err.count("\n")) == (1, 1), outcome.err
        assert words in outcome.err
        assert time.monotonic() - began < 10


async def test_a_key_that_may_not_create_streams_waits(secured: SecuredNats) -> None:
    async with (
        connect(secured.settings("persister"), name="persister", wait=10) as bus,
        connect(secured.settings("service"), name="service", wait=10) as service,
    ):
        with contextlib.suppress(TimeoutError):
            await eventually_made(bus, within=1)
            pytest.fail("the persister made the streams")
        await ensure_streams(service, NatsSettings())
        await eventually_made(bus, within=20)


async def eventually_made(bus: Bus, *, within: float) -> None:
    async with asyncio.timeout(within):
        await ensure_streams(bus, NatsSettings())


async def test_existing_files_are_kept_and_private(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    assert (await mediabus("secure", str(keys))).code == 0
    before = {file.name: file.read_bytes() for file in keys.iterdir()}
    assert {"nats.conf", "local.conf", "accounts.conf", "service.nk"} <= before.keys()
    assert {stat.S_IMODE(file.stat().st_mode) for file in keys.iterdir()} == {0o600}
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    outcome = await mediabus("secure", str(keys))
    assert {file.name: file.read_bytes() for file in keys.iterdir()} == before
    for name, content in before.items():
        if name.endswith((".nk", ".password", ".key")):
            assert content.decode().strip() not in outcome.out


async def test_the_options_of_a_first_run_stay(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    first = ("secure", str(keys), "--at", "/etc/nats", "--store", "/data", "--user", "42")
    assert (await mediabus(*first)).code == 0
    before = (keys / "nats.conf").read_text()
    assert (await mediabus("secure", str(keys))).code == 0
    assert (keys / "nats.conf").read_text() == before
    assert '"/etc/nats/server.pem"' in before
    assert 'store_dir: "/data"' in before
    (keys / "user-42.nk").unlink()
    assert (await mediabus("secure", str(keys))).code == 0
    assert "mediabus-user-42" not in (keys / "nats.conf").read_text()


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("--consumer", "persister"),
        ("--consumer", "ingest"),
        ("--consumer", "a.b"),
        ("--consumer", "*"),
        ("--user", ""),
        ("--user", "a\nb"),
        ("--user", "x" * 65),
        ("--program", "\N{SNOWMAN}" * 40),
    ],
)
async def test_an_invalid_name_is_refused_and_creates_no_file(
    tmp_path: Path, option: str, name: str
) -> None:
    keys = tmp_path / "keys"
    outcome = await mediabus("secure", str(keys), option, name)
    assert outcome.code == 2
    assert "cannot be a name" in outcome.err
    assert not keys.exists()


async def test_any_other_key_file_is_named(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    assert (await mediabus("secure", str(keys))).code == 0
    (keys / "service.nk").rename(keys / "something.nk")
    outcome = await mediabus("secure", str(keys))
    assert outcome.code == 1
    assert "something.nk is not a key that" in outcome.err


NASTY = ("a.b@x.org", "a b", "*", ">", "$x", "%2E", "-", 'q"q', "in", "\N{SNOWMAN}", "'", "\\")


async def test_a_name_may_hold_what_subjects_and_settings_cannot(tmp_path: Path) -> None:
    options = [word for name in NASTY for word in ("--user", name)]
    found = []
    with secured_nats(tmp_path, options) as secured:
        async with connect(secured.settings("service"), name="service", wait=10) as service:
            await ensure_streams(service, NatsSettings())
            async with serve_keys(service):
                for name in NASTY:
                    await publish_as(secured, f"user-{token(name)}")
            for number in range(len(NASTY)):
                raw = await service.js.get_msg("EVENTS", number + 1)
                found.append(codec.decode(raw.data or b"", raw.headers, trust_actor=True))
    assert [event.actor for event in found] == [Actor("user", name) for name in NASTY]
    assert all(event.actor_verified for event in found)


async def publish_as(secured: SecuredNats, key: str) -> None:
    async with connect(secured.settings(key), name=key, wait=5) as bus:
        await bus.publish(JobExecuted(job_name="a"), actor=Actor("user", "1"))


async def test_a_new_key_works_after_two_reloads_of_the_server(
    secured: SecuredNats,
) -> None:
    async with connect(secured.settings("service"), name="service", wait=10) as service:
        await ensure_streams(service, NatsSettings())
        async with serve_keys(service):
            secured.secure("--user", "new")

            async def publishes() -> bool:
                secured.reload()
                try:
                    await publish_as(secured, "user-new")
                except (CannotConnect, PublishFailed):  # not twice yet
                    return False
                return True

            await eventually(publishes, within=30, every=0.5)


WITHOUT_ACCOUNTS = """\
server_name: mediabus
port: 4222
max_payload: 8MB
jetstream {{
  store_dir: "{keys}/jetstream"
  sync_interval: always
}}
tls {{
  cert_file: "{keys}/server.pem"
  key_file: "{keys}/server.key"
}}
authorization {{ users: [{{nkey: {service}}}] }}
"""
"""A nats.conf as 0.1.0 made it, as far as its store is concerned."""


async def test_streams_of_0_1_0_move_to_the_account_of_the_streams(tmp_path: Path) -> None:
    secured = SecuredNats(tmp_path, ())
    keys, config = secured.keys, secured.keys / "nats.conf"
    service = public_key_of(str(keys / "service.nk"))
    config.write_text(WITHOUT_ACCOUNTS.format(keys=keys, service=service))
    secured.start()
    try:
        async with connect(secured.settings("service"), name="service", wait=10) as bus:
            assert not bus.trusts_actors
            await ensure_streams(bus, NatsSettings())
            durable = ConsumerConfig(durable_name="persister", ack_policy=AckPolicy.EXPLICIT)
            await bus.js.add_consumer("EVENTS", durable)
            for number in range(3):
                event = JobExecuted(job_name=str(number))
                await bus.publish(event, actor=Actor("job", "old"))
        refused = await mediabus("secure", str(keys))
        assert refused.code == 1
        assert "Stop nats-server" in refused.err
        assert "accounts {" not in config.read_text()  # nothing was changed
        secured.stop()
        moved = await mediabus("secure", str(keys))
        assert moved.code == 0
        assert "the streams now have their own account" in moved.out
        secured.start()
        async with connect(secured.settings("service"), name="service", wait=10) as bus:
            assert bus.trusts_actors
            await ensure_streams(bus, NatsSettings())
            state = (await bus.js.stream_info("EVENTS")).state
            assert (state.messages, state.consumer_count) == (3, 1)
            info = await bus.js.consumer_info("EVENTS", "persister")
            assert info.num_pending == 3
    finally:
        secured.stop()
    again = await mediabus("secure", str(keys))
    assert (again.code, "account of their own" in again.out) == (0, False)


async def test_a_store_elsewhere_is_named_to_be_moved(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    assert (
        await mediabus("secure", str(keys), "--at", "/etc/nats", "--store", "/nowhere")
    ).code == 0
    config = keys / "nats.conf"
    config.write_text(re.sub(r"accounts \{.*\n\}\n", "", config.read_text(), flags=re.DOTALL))
    outcome = await mediabus("secure", str(keys))
    assert outcome.code == 0
    assert "rename the\nfolder /nowhere/jetstream/$G to /nowhere/jetstream/mediabus" in outcome.out


async def test_the_service_s_key_backs_up_and_discards_dead_letters(
    secured: SecuredNats, database_url: str, tmp_path: Path
) -> None:
    operator = {**secured.variables("service"), "MEDIABUS_DATABASE_URL": database_url}
    async with connect(secured.settings("service"), name="service", wait=10) as bus:
        await ensure_streams(bus, NatsSettings())
        await bus.publish(JobExecuted(job_name="a"), actor=Actor("job", "a"))
        for _ in range(3):
            await bus.js.publish("dead_letters.persister.invalid", b"x")
        made = await mediabus("backup", str(tmp_path / "all.backup"), stdin=b"", **operator)
        assert made.code == 0, made.err
        gone = await mediabus("dead", "discard", "--all", "--yes", stdin=b"", **operator)
        assert (gone.code, gone.err) == (0, "")
        assert (await bus.js.stream_info("DEAD_LETTERS")).state.messages == 0

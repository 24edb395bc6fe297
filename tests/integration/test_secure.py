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

from service.runtime.bus import Bus, CannotConnect, connect
from service.runtime.nats_client import NotAllowed
from service.runtime.settings import NatsSettings, SettingsError
from service.runtime.streams import ensure_streams
from tests.support.commands import mediabus
from tests.support.eventually import eventually
from tests.support.secured import SecuredNats, secured_nats
from tests.support.servers import NatsServer


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[SecuredNats]:
    with secured_nats(tmp_path) as server:
        yield server


API = "$JS.API"
MAY: dict[str, list[str]] = {
    "service": [
        "events.a",
        "replay.a",
        f"{API}.STREAM.CREATE.EVENTS",
        f"{API}.STREAM.UPDATE.EVENTS",
    ],
    "monitor": ["events.a", "$KV.download_status.a", f"{API}.STREAM.INFO.KV_download_status"],
    "persister": [
        "dead_letters.persister.invalid",
        f"{API}.CONSUMER.DURABLE.CREATE.EVENTS.persister",
        "$JS.ACK.EVENTS.persister.1.2.3.4.5",
    ],
    "publisher": ["events.a", "media.create", "downloads.initiate", "history.list", "$SRV.INFO"],
    "viewer": [
        "history.list",
        "media.list",
        f"{API}.STREAM.INFO.EVENTS",
        f"{API}.CONSUMER.DURABLE.CREATE.EVENTS.tail-1",
    ],
}
NOBODY_MAY = [
    f"{API}.STREAM.DELETE.EVENTS",
    f"{API}.STREAM.PURGE.EVENTS",
    f"{API}.STREAM.MSG.DELETE.EVENTS",
    f"{API}.CONSUMER.DELETE.EVENTS.persister",
    f"{API}.STREAM.LIST",
    f"{API}.ACCOUNT.INFO",
    "$SYS.REQ.SERVER.PING",
    "anything.else",
]
MAY_NOT: dict[str, list[str]] = {
    "service": ["$KV.download_status.a", f"{API}.CONSUMER.MSG.NEXT.EVENTS.persister"],
    "monitor": ["media.create", f"{API}.STREAM.CREATE.EVENTS", "dead_letters.persister.invalid"],
    "persister": [
        "events.a",
        "replay.a",
        "media.create",
        f"{API}.STREAM.CREATE.EVENTS",
        f"{API}.CONSUMER.DURABLE.CREATE.EVENTS.other",
        "$JS.ACK.EVENTS.other.1.2.3.4.5",
    ],
    "publisher": [
        f"{API}.STREAM.INFO.EVENTS",
        f"{API}.CONSUMER.CREATE.EVENTS",
        "$KV.download_status.a",
        "dead_letters.persister.invalid",
        "$JS.ACK.EVENTS.persister.1.2.3.4.5",
    ],
    "viewer": [
        "events.a",
        "media.create",
        "media.delete",
        "downloads.cancel",
        "$KV.download_status.a",
        f"{API}.CONSUMER.DURABLE.CREATE.EVENTS.persister",
        f"{API}.CONSUMER.MSG.NEXT.EVENTS.persister",
        f"{API}.STREAM.CREATE.EVENTS",
        "$JS.ACK.EVENTS.persister.1.2.3.4.5",
    ],
}
MAY_HEAR = {
    "service": ["media.create", "downloads.*", "$SRV.INFO"],
    "monitor": ["mediabus.monitor.look.*"],
    "persister": ["history.list", "$SRV.PING.a"],
    "publisher": [],
    "viewer": ["events.>"],
}
MAY_NOT_HEAR = {
    "service": ["events.>", "history.list", "dead_letters.>"],
    "monitor": ["media.create", "events.>"],
    "persister": ["media.create", "events.>", "$KV.download_status.>"],
    "publisher": ["events.>", "media.create", "$SRV.INFO"],
    "viewer": ["media.create", "history.list", "dead_letters.>", "$KV.download_status.>"],
}


async def is_let(bus: Bus, subject: str) -> bool:
    """Whether the user may publish there; each answer but a refusal means yes."""
    try:
        await bus.nc.request(subject, b"", timeout=1)
    except NotAllowed as error:
        return subject not in str(error)
    except NatsError:  # nobody is there, or says nothing
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
        for subject in (*MAY_HEAR[role], *refused):
            await bus.nc.subscribe(subject)
        await bus.nc.flush()
        words = 'violation for subscription to "([^"]*)"'
        expected = {subject.lower() for subject in refused}
        await eventually(lambda: expected <= set(re.findall(words, caplog.text)))
        assert set(re.findall(words, caplog.text)) == expected


async def test_nobody_gets_in_without_a_key_or_without_tls(
    secured: SecuredNats, nats: NatsServer
) -> None:
    mine = secured.settings("viewer")
    trusting = NatsSettings(url=secured.url, tls_ca=mine.tls_ca)
    refused = [
        (trusting, "Authorization Violation"),
        (NatsSettings(url=secured.url, nkey_seed_file=mine.nkey_seed_file), "CERTIFICATE_VERIFY"),
        (NatsSettings(url=nats.url, tls_ca=mine.tls_ca), "does not speak TLS"),
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


async def test_a_refused_command_says_so_in_a_line(secured: SecuredNats) -> None:
    viewer, publisher = secured.variables("viewer"), secured.variables("publisher")
    async with connect(secured.settings("service"), name="service", wait=10) as bus:
        await ensure_streams(bus, bus.settings)
    said = ("publish", "job.executed", "--data", '{"job_name": "a"}')
    assert (await mediabus(*said, stdin=b"", **publisher)).code == 0
    assert (await mediabus("tail", "--since", "1h", "--no-follow", stdin=b"", **viewer)).out.count(
        "\n"
    ) == 1
    cases = [
        (said, viewer, "does not let this user publish to events.system.job.executed.-"),
        (("tail",), publisher, "does not let this user ask $JS.API.STREAM.INFO.EVENTS"),
        (("tail",), secured.variables("persister"), "ask $JS.API.CONSUMER.DURABLE.CREATE.EVENTS"),
        (("dead", "list"), publisher, "does not let this user ask $JS.API.STREAM.INFO.DEAD"),
        (("history",), secured.variables("monitor"), "does not let this user ask history.list"),
        (("top", "--once"), publisher, "not let this user ask $JS.API.STREAM.INFO.KV_download"),
    ]
    for command, variables, words in cases:
        began = time.monotonic()
        outcome = await mediabus(*command, stdin=b"", **variables)
        assert (outcome.code, outcome.err.count("\n")) == (1, 1), outcome.err
        assert words in outcome.err
        assert time.monotonic() - began < 10


async def test_who_may_not_make_the_streams_waits_for_who_may(secured: SecuredNats) -> None:
    async with (
        connect(secured.settings("persister"), name="persister", wait=10) as bus,
        connect(secured.settings("service"), name="service", wait=10) as service,
    ):
        with contextlib.suppress(TimeoutError):
            await eventually_made(bus, within=1)
            pytest.fail("the persister made the streams")
        await ensure_streams(service, service.settings)
        await eventually_made(bus, within=20)


async def eventually_made(bus: Bus, *, within: float) -> None:
    async with asyncio.timeout(within):
        await ensure_streams(bus, bus.settings)


async def test_what_is_there_is_kept_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    assert (await mediabus("secure", str(keys))).code == 0
    before = {file.name: file.read_bytes() for file in keys.iterdir()}
    assert {stat.S_IMODE(file.stat().st_mode) for file in keys.iterdir()} == {0o600}
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    outcome = await mediabus("secure", str(keys))
    assert {file.name: file.read_bytes() for file in keys.iterdir()} == before
    for name, content in before.items():
        if name.endswith((".nk", ".password", ".key")):
            assert content.decode().strip() not in outcome.out

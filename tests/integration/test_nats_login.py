"""Logging in to NATS: files of keys in any state, passwords of any kind, and a way out."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nkeys
import pytest
from nats.aio.client import Client

from mediabus.runtime.nats.bus import Bus, CannotConnect, connect
from mediabus.runtime.nats.credentials import public_key_of
from mediabus.runtime.settings import NatsSettings, Settings, SettingsError
from tests.support.commands import mediabus
from tests.support.eventually import eventually
from tests.support.processes import Name, processes
from tests.support.servers import NatsServer, nats_server

SEED = nkeys.encode_seed(b"m" * 32, nkeys.PREFIX_BYTE_USER).decode()
OTHER_SEED = nkeys.encode_seed(b"n" * 32, nkeys.PREFIX_BYTE_USER).decode()
CREDENTIALS = f"""\
-----BEGIN NATS USER JWT-----
eyJ0eXAiOiJKV1QifQ.eyJqdGkiOiJub25lIn0.c2ln
------END NATS USER JWT------

************************* IMPORTANT *************************
-----BEGIN USER NKEY SEED-----
{SEED}
------END USER NKEY SEED------
"""


@pytest.fixture
def seed_file(tmp_path: Path) -> Path:
    path = tmp_path / "user.nk"
    path.write_text(f"{SEED}\n")
    return path


@pytest.fixture
def guarded(tmp_path: Path, seed_file: Path) -> Iterator[NatsServer]:
    """A server that knows the key alone."""
    users = f"authorization: {{users: [{{nkey: {public_key_of(str(seed_file))}}}]}}"
    with nats_server(tmp_path, config_extra=users) as server:
        yield server


BROKEN: dict[str, bytes | None] = {
    "empty": b"",
    "half written": SEED[:20].encode(),
    "binary": b"\xff\xfe\x00\x01" * 40,
    "not UTF-8": b"SU\xff\xff",
    "not ASCII": "SUÄÖ".encode(),
    "missing": None,
    "of another key": OTHER_SEED.encode(),
    "blank": b" \n\n",
}


def write(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(content)


@pytest.mark.parametrize("how", BROKEN)
async def test_a_broken_seed_file_during_a_reconnect_is_waited_for(
    guarded: NatsServer, seed_file: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mediabus.bus")
    settings = NatsSettings(url=guarded.url, nkey_seed_file=str(seed_file))
    async with connect(settings, name="test", wait=10) as bus:
        await asyncio.to_thread(guarded.stop)
        await eventually(lambda: not bus.is_connected)
        write(seed_file, BROKEN[how])
        await asyncio.to_thread(guarded.start)
        await eventually(lambda: reasons(caplog, str(seed_file)))
        tries = Tries(bus.nc)
        await eventually(lambda: tries.count >= 2)
        write(seed_file, SEED.encode())
        await eventually(lambda: bus.is_connected)
        await bus.nc.flush()
    assert len(reasons(caplog, str(seed_file))) == 1


def reasons(caplog: pytest.LogCaptureFixture, path: str) -> list[str]:
    """What was logged about the file."""
    said = (str(getattr(record, "reason", "")) for record in caplog.records)
    return [reason for reason in said if path in reason]


class Tries:
    """Counts how often a connection greets a server."""

    def __init__(self, nc: Client) -> None:
        self.count = 0
        self._greet = nc._process_connect_init
        nc._process_connect_init = self._counted  # type: ignore[method-assign]

    async def _counted(self) -> None:
        self.count += 1
        await self._greet()


@pytest.mark.parametrize("key", ["nkey_seed_file", "credentials"])
@pytest.mark.parametrize("how", [name for name in BROKEN if name != "of another key"])
async def test_a_command_names_the_file_that_it_cannot_use(
    tmp_path: Path, key: str, how: str
) -> None:
    path = tmp_path / "user"
    write(path, BROKEN[how])
    changes = {f"MEDIABUS_NATS_{key.upper()}": str(path), "MEDIABUS_DATA_DIR": str(tmp_path)}
    outcome = await mediabus("tail", stdin=b"", **changes)
    assert outcome.code == 2
    assert f"settings: nats.{key}: " in outcome.err
    assert str(path) in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (SEED, "no block 'NATS USER JWT'.*nkey_seed_file"),
        (CREDENTIALS.partition("****")[0], "no block 'USER NKEY SEED'"),
        (CREDENTIALS.partition("eyJ")[0], "no block 'NATS USER JWT'"),
        (CREDENTIALS.replace(SEED, SEED[:30]), "holds no seed"),
    ],
)
async def test_incomplete_credentials_are_refused_with_the_missing_part(
    tmp_path: Path, nats_url: str, content: str, said: str
) -> None:
    path = tmp_path / "user.creds"
    write(path, content.encode())
    with pytest.raises(SettingsError, match=said):
        async with connect(NatsSettings(url=nats_url, credentials=str(path)), name="test"):
            pass


def with_windows_lines(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


def with_byte_order_mark(text: str) -> bytes:
    return text.encode("utf-8-sig")


def as_windows_writes_it(text: str) -> bytes:
    return text.encode("utf-16")


def twice(text: str) -> bytes:
    return (text + text.replace(SEED, OTHER_SEED)).encode()


def without_last_line_end(text: str) -> bytes:
    return text.rstrip().encode()


FORMS = [with_windows_lines, with_byte_order_mark, as_windows_writes_it, without_last_line_end]


@pytest.mark.parametrize("form", FORMS)
async def test_a_seed_file_with_any_line_ends_logs_in(
    guarded: NatsServer, seed_file: Path, form: Callable[[str], bytes]
) -> None:
    write(seed_file, form(f"{SEED}\n"))
    settings = NatsSettings(url=guarded.url, nkey_seed_file=str(seed_file))
    async with connect(settings, name="test", wait=10) as bus:
        assert bus.is_connected


@pytest.mark.parametrize("form", [*FORMS, twice])
async def test_credentials_as_any_editor_writes_them_are_read(
    tmp_path: Path, nats_url: str, form: Callable[[str], bytes]
) -> None:
    path = tmp_path / "user.creds"
    write(path, form(CREDENTIALS))
    settings = NatsSettings(url=nats_url, credentials=str(path))
    async with connect(settings, name="test", wait=10) as bus:
        jwt, sign = bus.nc._user_jwt_cb, bus.nc._signature_cb
        assert jwt
        assert sign
        assert jwt() == b"eyJ0eXAiOiJKV1QifQ.eyJqdGkiOiJub25lIn0.c2ln"
        assert sign("nonce") == sign("nonce")


@pytest.mark.parametrize("password", ["p@ss/w:rd", "100%", "a b#c?d", "ümläut", "comma,d"])
async def test_a_password_in_a_url_is_percent_decoded(tmp_path: Path, password: str) -> None:
    login = {"p@ss/w:rd": "p%40ss%2Fw%3Ard", "100%": "100%25", "a b#c?d": "a%20b%23c%3Fd"}
    login |= {"ümläut": "%C3%BCml%C3%A4ut", "comma,d": "comma%2Cd"}
    users = f'authorization: {{users: [{{user: "us er", password: "{password}"}}]}}'
    with nats_server(tmp_path, config_extra=users) as server:
        url = f"nats://us%20er:{login[password]}@127.0.0.1:{server.port}"
        async with connect(NatsSettings(url=url), name="test", wait=10) as bus:
            assert bus.is_connected
        apart = NatsSettings(url=f"nats://us%20er@127.0.0.1:{server.port}", password=password)
        async with connect(apart, name="test", wait=10) as bus:
            assert bus.is_connected


async def test_a_token_in_a_url_is_percent_decoded(tmp_path: Path) -> None:
    with nats_server(tmp_path, config_extra='authorization: {token: "t@ken"}') as server:
        url = f"nats://t%40ken@127.0.0.1:{server.port}"
        async with connect(NatsSettings(url=url), name="test", wait=10) as bus:
            assert bus.is_connected


async def test_a_url_that_asks_for_tls_is_not_answered_without(nats: NatsServer) -> None:
    settings = NatsSettings(url=f"tls://127.0.0.1:{nats.port}")
    with pytest.raises(CannotConnect, match="does not offer TLS"):
        async with connect(settings, name="test", wait=0.5):
            pass


@pytest.mark.parametrize(
    "url", ["nats://a:1,ws://b:2", "nats://u:p#w@host:1", ",", "nats://h:99999"]
)
async def test_an_invalid_nats_url_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(SettingsError, match=r"nats\.url is not a URL of NATS servers") as refused:
        async with connect(NatsSettings(url=url), name="test", wait=1):
            pass
    assert "p#w" not in str(refused.value)


async def test_an_unexpected_error_does_not_end_a_reconnect(
    nats: NatsServer, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from a proxy that answers in a server's place with something other than a greeting."""
    fails = iter([KeyError("version"), RuntimeError("closed"), ZeroDivisionError()])
    connected = bus.nc._reconnected_cb
    assert connected

    async def fail() -> None:
        for error in fails:
            raise error
        await connected()

    monkeypatch.setattr(bus.nc, "_reconnected_cb", fail)
    await asyncio.to_thread(nats.kill)
    await eventually(lambda: not bus.is_connected)
    await asyncio.to_thread(nats.start)
    await eventually(lambda: bus.is_connected and next(fails, None) is None)
    await eventually(lambda: bus.is_connected)
    await bus.nc.flush()


@pytest.mark.parametrize("name", ["service", "monitor", "persist"])
@pytest.mark.parametrize("seconds", [0.0, 0.4])
async def test_processes_exit_with_0_while_nats_is_unreachable(
    settings: Settings, nats: NatsServer, tmp_path: Path, name: Name, seconds: float
) -> None:
    with processes(settings, tmp_path, name) as [process]:
        nats.kill()
        until = time.monotonic() + seconds
        await eventually(lambda: process.says("NATS connection lost, reconnecting"))
        await eventually(lambda: time.monotonic() >= until)
        assert await asyncio.to_thread(process.stop) == 0
        assert "Traceback" not in process.log.read_text()
        assert not process.says("an exit step failed")

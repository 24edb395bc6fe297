"""No password and no key leaves mediabus by a log, a reply, a table, a message, a process list."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from nats.aio.msg import Msg

from mediabus.runtime.nats.bus import Bus, connect
from mediabus.runtime.postgres.database import open_pool
from mediabus.runtime.settings import (
    DatabaseSettings,
    DownloadsSettings,
    MonitorSettings,
    NatsSettings,
    Settings,
)
from mediabus.schemas.subjects import DOWNLOAD_STATUS_BUCKET
from tests.support.commands import mediabus
from tests.support.eventually import eventually
from tests.support.library import Library, Refused, answers
from tests.support.ports import free_port
from tests.support.processes import Process, processes
from tests.support.servers import NatsServer, nats_server

NATS, DATABASE, CLIENT, API_KEY, PASSKEY = SECRETS = (
    "nAtS5ecretOne",
    "dAtAba5eSecretTwo",
    "cLient5ecretThree",
    "aPikEy5ecretFour",
    "pAs5keySecretFive",
)
HEX = "0123456789abcdef0123456789abcdef01234567"
TABLES = ("events", "outbox", "downloads", "download_clients", "media_items")


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[NatsServer]:
    users = f"authorization {{users: [{{user: mediabus, password: {NATS}}}]}}"
    directory = tmp_path / "guarded"
    directory.mkdir()
    with nats_server(directory, config_extra=users) as server:
        yield server


async def tell_all(request: web.Request) -> web.Response:
    """What a badly written program answers: all that it was asked, keys and all."""
    said = f"{request.path_qs} {dict(request.headers)} {await request.text()}"
    if request.path.startswith("/away"):
        location = f"https://elsewhere{request.path_qs}&apikey={API_KEY}"
        return web.Response(status=302, headers={"Location": location})
    return web.Response(text=f"<html>no such thing: {said}</html>", status=404)


@pytest.fixture
async def telltale() -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", tell_all)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def clients_at(telltale: str) -> list[dict[str, str]]:
    """Clients that answer with what they were asked, redirect with it, or are not there."""
    nowhere = f"127.0.0.1:{free_port()}"
    places = {"echo": telltale, "away": f"{telltale}/away", "nowhere": nowhere}
    kinds = ("qbittorrent", "transmission", "aria2", "rtorrent", "sabnzbd", "nzbget")
    return [
        {
            "name": f"{kind}-{name}",
            "kind": kind,
            "url": f"http://me:{CLIENT}@{place}",
            "username": "" if kind in {"aria2", "sabnzbd"} else "me",
            "password": API_KEY if kind == "sabnzbd" else CLIENT,
        }
        for kind in kinds
        for name, place in places.items()
    ]


def requests_to(telltale: str) -> list[dict[str, str]]:
    magnet = f"magnet:?xt=urn:btih:{HEX}&tr=http://{telltale}/{PASSKEY}/announce&passkey={PASSKEY}"
    return [
        {"url": f"http://{telltale}/{PASSKEY}?apikey={API_KEY}"},
        {"url": f"http://me:{PASSKEY}@{telltale}/away?apikey={API_KEY}"},
        {"url": f"http://me:{PASSKEY}@localhost:{free_port()}/?apikey={API_KEY}"},
        {"url": f"http://me:{PASSKEY}@10.255.255.1/?apikey={API_KEY}"},
        {"url": f"http://me:{PASSKEY}@[broken/?apikey={API_KEY}"},
        {"url": f"file:///{PASSKEY}"},
        {"magnet": f"magnet:?apikey={API_KEY}&passkey={PASSKEY}"},
        *(
            {"magnet": magnet, "client": f"{kind}-{name}"}
            for kind in ("qbittorrent", "aria2", "transmission", "rtorrent")
            for name in ("echo", "away", "nowhere")
        ),
    ]


async def refusals(user: Library, telltale: str) -> list[str]:
    """What each request is refused with."""
    said = []
    for number, request in enumerate(requests_to(telltale)):
        with pytest.raises(Refused) as refused:
            await user.ask("downloads.initiate", {"title": f"It {number}", **request}, timeout=60)
        said.append(str(refused.value))
    return said


async def stored(user: Library) -> list[str]:
    """Every row of every table, as text."""
    rows = []
    for table in TABLES:
        rows += [str(row[0]) for row in await user.pool.fetch(f"SELECT t::text FROM {table} AS t")]
    payloads = await user.pool.fetch("SELECT convert_from(payload, 'UTF8') AS p FROM outbox")
    return rows + [row["p"] for row in payloads]


async def streamed(bus: Bus) -> list[str]:
    """Every message of every stream."""
    heard: list[str] = []

    async def hear(message: Msg) -> None:
        heard.append(message.data.decode())

    for subject, stream in (
        ("events.>", "EVENTS"),
        ("dead_letters.>", "DEAD_LETTERS"),
        ("$KV.>", f"KV_{DOWNLOAD_STATUS_BUCKET}"),
    ):
        count = (await bus.js.stream_info(stream)).state.messages
        already = len(heard)
        subscription = await bus.js.subscribe(
            subject, stream=stream, cb=hear, ordered_consumer=True
        )
        await eventually(lambda so_far=already + count: len(heard) >= so_far)  # type: ignore[misc]
        await subscription.unsubscribe()
    return heard


async def shown_by(process: Process) -> list[str]:
    """What a process shows of itself: its log, its command, its metrics."""
    async with aiohttp.ClientSession() as session:
        pages = [
            await (await session.get(f"http://127.0.0.1:{process.port}{path}")).text()
            for path in ("/metrics", "/readyz", "/livez")
        ]
    return [process.log.read_text(), command_of(process.pid), *pages]


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def must_not_tell(words: list[str]) -> None:
    told = [text[:3000] for text in words for secret in SECRETS if secret in text]
    assert told == []


async def test_processes_with_errors_print_no_secret(
    guarded: NatsServer, database_url: str, telltale: str, tmp_path: Path
) -> None:
    nats_url = guarded.url.replace("://", f"://mediabus:{NATS}@")
    settings = Settings(
        nats=NatsSettings(url=nats_url),
        database=DatabaseSettings(url=database_url.replace("postgres@", f"postgres:{DATABASE}@")),
        downloads=DownloadsSettings(allowed_hosts=[telltale, "localhost"]),
        monitor=MonitorSettings(unreachable_after=1.0),
        clients=clients_at(telltale),
    )
    with processes(settings, tmp_path, "service", "monitor", "persist") as running:
        async with (
            connect(settings.nats, name="user", wait=10) as bus,
            open_pool(settings.database, size=1) as pool,
        ):
            user = Library(bus.nc, pool)
            await eventually(lambda: answers(user), within=20)
            replies = await refusals(user, telltale)
            assert "http://127.0.0.1" in replies[0]  # it was really tried

            async def all_said() -> bool:
                types = await user.types()
                return types.count("download_client.unreachable") == len(settings.clients)

            await eventually(all_said, within=60)
            words = replies + await stored(user) + await streamed(bus)
            guarded.stop()
            for process in running:
                await eventually(lambda it=process: it.says("NATS connection lost, reconnecting"))  # type: ignore[misc]
                words += await shown_by(process)
            guarded.start()
        assert len(words) > 50
        must_not_tell(words)


BAD: list[tuple[tuple[str, ...], dict[str, str]]] = [
    (("publish", "a.b"), {"MEDIABUS_NATS_URL": f"nats://me:{NATS}@127.0.0.1:1"}),
    (("publish", "a.b"), {"MEDIABUS_NATS_URL": f"nats://me:{NATS}:x@127.0.0.1:{NATS}"}),
    (("doctor",), {"MEDIABUS_NATS_URL": f"nats://me:{NATS}@[::1"}),
    (("doctor",), {"MEDIABUS_NATS_URL": f"nats://me:pass/{NATS}@127.0.0.1:1"}),
    (("migrate",), {"MEDIABUS_DATABASE_URL": f"postgresql://me:x/{DATABASE}@127.0.0.1/m"}),
    (("migrate",), {"MEDIABUS_DATABASE_URL": f"mysql://me:{DATABASE}@127.0.0.1/m"}),
    (("migrate",), {"MEDIABUS_DATABASE_URL": f"postgresql://me:{DATABASE}@h:{DATABASE}/m"}),
    (("service",), {"MEDIABUS_CLIENTS_HOME_URL": f"me:{CLIENT}@nas:8080"}),
    (("service",), {"MEDIABUS_CLIENTS_HOME_URL": f"htp://me:{CLIENT}@nas:8080/?apikey={API_KEY}"}),
    (
        ("service",),
        {"MEDIABUS_CLIENTS_HOME_PASSWORD": CLIENT, "MEDIABUS_CLIENTS_HOME_TIMEOUT": "x"},
    ),
    (("monitor",), {"MEDIABUS_NATS_REPLICAS": "x", "MEDIABUS_NATS_PASSWORD": NATS}),
]


@pytest.mark.parametrize(("command", "variables"), BAD)
async def test_settings_that_cannot_be_used_are_not_quoted(
    tmp_path: Path, command: tuple[str, ...], variables: dict[str, str]
) -> None:
    config = tmp_path / "mediabus.toml"
    config.write_text('[[clients]]\nname = "home"\nkind = "sabnzbd"\nurl = "http://nas:8080"\n')
    config.chmod(0o600)
    environment = {"MEDIABUS_CONFIG": str(config), "MEDIABUS_DATABASE_URL": "postgresql://a/b"}
    outcome = await mediabus(*command, stdin=b"", **{**environment, **variables})
    assert outcome.code in {1, 2}
    assert "Traceback" not in outcome.err
    must_not_tell([outcome.out, outcome.err])


async def test_settings_that_others_may_read_are_warned_about(tmp_path: Path) -> None:
    config = tmp_path / "mediabus.toml"
    client = '[[clients]]\nname = "home"\nkind = "sabnzbd"\nurl = "http://n"\npassword = "a"\n'
    config.write_text(client)
    nowhere = {"MEDIABUS_CONFIG": str(config), "MEDIABUS_NATS_URL": "nats://127.0.0.1:1"}
    warning = f"{config} holds secrets and other users can read it"
    for mode, content, warned in (
        (0o644, client, True),
        (0o640, client, True),
        (0o600, client, False),
        (0o644, client.replace("password", "category"), False),
        (0o644, client.replace("http://", "http://me:a@").replace("password", "category"), True),
    ):
        config.write_text(content)
        config.chmod(mode)
        assert (warning in (await mediabus("doctor", stdin=b"", **nowhere)).out) == warned
    started = await mediabus("service", stdin=b"", **nowhere, MEDIABUS_HTTP_HOST="256.0.0.1")
    assert started.err.count(warning) == 1

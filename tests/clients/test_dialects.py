"""What clients say that cannot be had here for real: other versions, bans, proxies in front.

The answers are those of qBittorrent 5.2's and Transmission's own sources.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest
from aiohttp import web

from mediabus.schemas.status import ItemId, Phase, UnreachableReason
from mediabus.service.clients.http import FIRST_WAIT, MAX_WAIT, LoginBackoff
from mediabus.service.clients.port import ClientRefused, ClientUnavailable, Delta, Magnet, Snapshot
from mediabus.service.clients.qbittorrent import QBittorrentSettings
from mediabus.service.clients.transmission import TransmissionSettings
from mediabus.service.clients.transmission.rpc import Stats
from mediabus.service.clients.transmission.session import Transmission
from mediabus.service.clients.transmission.states import Torrent
from tests.support import daemons
from tests.support.eventually import eventually
from tests.unit.test_client_states import transmission_torrent

ITEM = ItemId("ab" * 20)
Handler = Callable[[web.Request], Awaitable[web.Response]]


def magnet() -> Magnet:
    return Magnet(f"magnet:?xt=urn:btih:{ITEM}")


@contextlib.asynccontextmanager
async def serving(handler: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """The address of a web server that answers everything by ``handler``, over TLS if so."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def qbittorrent(url: str, *, timeout: float = 5.0) -> QBittorrentSettings:
    return QBittorrentSettings(
        name="qb", url=url, username="librarian", password="a+b&ü", timeout=timeout
    )


class QBittorrent52:
    """The Web API of 5.2, below a path as a reverse proxy adds one."""

    def __init__(self) -> None:
        self.logins = 0
        self.cookie = ""
        self.called: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        path = request.path.removeprefix("/torrents/api/v2/")
        self.called.append(path)
        if path == "auth/login":
            return await self.log_in(request)
        if request.cookies.get("QBT_SID_8080") != self.cookie or not self.cookie:
            return web.Response(status=403, text="Forbidden")
        match path:
            case "torrents/info":
                return web.json_response([{"hash": ITEM, "name": "Dune"}])
            case "torrents/stop" | "torrents/start":
                return web.Response()
        return web.Response(status=404, text="Not Found")

    async def log_in(self, request: web.Request) -> web.Response:
        form = await request.post()
        if (form["username"], form["password"]) != ("librarian", "a+b&ü"):
            return web.Response(status=401)
        self.logins += 1
        self.cookie = f"+/{self.logins}=="
        answer = web.Response(status=204)
        answer.headers["Set-Cookie"] = f"QBT_SID_8080={self.cookie}; HttpOnly; path=/"
        return answer


async def test_qbittorrent_52_accepts_the_login_and_the_new_commands() -> None:
    server = QBittorrent52()
    async with serving(server.answer) as url, qbittorrent(f"{url}/torrents/").connect() as client:
        await client.pause(ITEM)
        await client.resume(ITEM)

    assert server.logins == 1
    assert server.called[-4:] == [
        "torrents/info",
        "torrents/stop",
        "torrents/info",
        "torrents/start",
    ]


async def test_many_calls_at_once_renew_an_ended_session_together() -> None:
    server = QBittorrent52()
    async with serving(server.answer) as url, qbittorrent(f"{url}/torrents").connect() as client:
        await client.pause(ITEM)
        server.cookie = "another"
        await asyncio.gather(*(client.pause(ITEM) for _ in range(5)))

    assert server.logins == 2


async def test_a_ban_differs_from_a_wrong_password_and_a_lost_session() -> None:
    words = "Your IP address has been banned after too many failed authentication attempts."

    async def banning(request: web.Request) -> web.Response:
        text = words if request.path.endswith("auth/login") else "Forbidden"
        return web.Response(status=403, text=text)

    async with serving(banning) as url, qbittorrent(url).connect() as client:
        with pytest.raises(ClientUnavailable, match="banned after too many") as banned:
            await client.observe()

    assert banned.value.reason == "banned"


async def test_a_session_that_is_always_refused_is_an_error() -> None:
    async def forgetful(request: web.Request) -> web.Response:
        if request.path.endswith("auth/login"):
            return web.Response(text="Ok.")
        return web.Response(status=403, text="Forbidden")

    async with serving(forgetful) as url, qbittorrent(url).connect() as client:
        with pytest.raises(ClientUnavailable, match="not the session") as refused:
            await client.observe()

    assert refused.value.reason == "authentication"


async def test_without_a_password_no_login_is_tried() -> None:
    server = QBittorrent52()
    async with serving(server.answer) as url:
        settings = QBittorrentSettings(name="qb", url=f"{url}/torrents")
        async with settings.connect() as client:
            with pytest.raises(ClientUnavailable, match="Set `username`"):
                await client.version()

    assert server.called == ["app/version"]


def saying(status: int, text: str = "", **headers: str) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text=text, headers=headers)

    return answer


ELSEWHERE: list[tuple[Handler, UnreachableReason, str]] = [
    (saying(200, "<html>Log in to the proxy</html>"), "protocol", "Log in to the proxy"),
    (saying(200, "[]"), "protocol", "does not answer like"),
    (saying(302, Location="https://sso/"), "protocol", "redirects to https://sso/"),
    (saying(404, "no such page"), "protocol", "HTTP 404"),
    (saying(429), "rate_limited", "limits requests"),
    (saying(500, "oops"), "protocol", "HTTP 500 oops"),
    (saying(502), "connection", "The proxy at"),
]


@pytest.mark.parametrize(("handler", "reason", "words"), ELSEWHERE)
@pytest.mark.parametrize("settings", [QBittorrentSettings, TransmissionSettings])
async def test_another_program_at_the_address_is_a_protocol_error(
    settings: type[QBittorrentSettings | TransmissionSettings],
    handler: Handler,
    reason: UnreachableReason,
    words: str,
) -> None:
    async with serving(handler) as url, settings(name="a", url=url).connect() as client:
        with pytest.raises(ClientUnavailable, match=words) as unavailable:
            await client.observe()

    assert unavailable.value.reason == reason


async def test_an_unreadable_record_is_an_error_and_not_omitted() -> None:
    """One that is left out would look removed. An odd field of a record hides nothing."""
    torrents = {ITEM: "Dune", "b" * 40: {"name": "Dune", "state": 1}}
    strange = web.json_response({"rid": 1, "full_update": True, "torrents": torrents})

    async with (
        serving(saying(200, strange.text or "")) as url,
        qbittorrent(url).connect() as client,
    ):
        with pytest.raises(ClientUnavailable, match=r"Expected `object`") as unavailable:
            await client.observe()

    assert unavailable.value.reason == "protocol"


@pytest.mark.parametrize("before", [[], [transmission_torrent(status=2)]])
async def test_a_torrent_stopped_before_its_start_is_not_paused(
    before: list[Torrent],
) -> None:
    stopped = [transmission_torrent(status=0)]
    answers = iter([before or [transmission_torrent(number=2)], stopped, stopped])

    async def answer(_: web.Request) -> web.Response:
        body = {"result": "success", "arguments": {"torrents": next(answers)}}
        return web.Response(body=msgspec.json.encode(body))

    async with (
        serving(answer) as url,
        TransmissionSettings(name="a", url=url).connect() as client,
    ):
        seen = [await client.observe() for _ in range(3)]

    assert [one.changed[0].phase for one in seen if isinstance(one, Delta)] == [
        Phase.QUEUED,
        Phase.PAUSED,
    ]


async def test_a_transmission_download_cannot_be_paused_during_a_check() -> None:
    torrent = transmission_torrent(status=2)
    text = msgspec.json.encode({"result": "success", "arguments": {"torrents": [torrent]}}).decode()

    async with serving(saying(200, text)) as url:
        settings = TransmissionSettings(name="a", url=url, timeout=0.3)
        async with settings.connect() as client:
            with pytest.raises(ClientRefused, match="still checks"):
                await client.pause(ITEM)


@pytest.mark.parametrize("settings", [QBittorrentSettings, TransmissionSettings])
async def test_a_client_that_hangs_is_given_up_in_time(
    settings: type[QBittorrentSettings | TransmissionSettings],
) -> None:
    async def hang(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    async with (
        serving(hang) as url,
        settings(name="a", url=url, timeout=0.2).connect() as client,
        asyncio.timeout(5),
    ):
        with pytest.raises(ClientUnavailable, match="did not answer in time") as unavailable:
            await client.observe()

    assert unavailable.value.reason == "connection"


@pytest.mark.parametrize("settings", [QBittorrentSettings, TransmissionSettings])
async def test_a_server_without_tls_differs_from_an_unreachable_one(
    settings: type[QBittorrentSettings | TransmissionSettings],
) -> None:
    async with serving(saying(200)) as url:
        https = url.replace("http:", "https:").replace("//", "//user:secret@")
        async with settings(name="a", url=https).connect() as client:
            with pytest.raises(ClientUnavailable) as unavailable:
                await client.observe()

    assert unavailable.value.reason == "tls"
    assert "secret" not in str(unavailable.value)


@pytest.mark.parametrize("url", ["", "nas:8080", "ftp://nas", "http://"])
@pytest.mark.parametrize("settings", [QBittorrentSettings, TransmissionSettings])
def test_an_invalid_address_is_refused_with_the_settings(
    settings: type[QBittorrentSettings | TransmissionSettings], url: str
) -> None:
    with pytest.raises(ValueError, match="url must look like"):
        settings(name="a", url=url)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("<p>Too many unsuccessful login attempts. Restart transmission-daemon.", "banned"),
        ("<p>Unauthorized IP Address.</p>", "authentication"),
    ],
)
async def test_a_refusal_by_transmission_has_its_message(
    words: str, reason: UnreachableReason
) -> None:
    async with (
        serving(saying(403, words)) as url,
        TransmissionSettings(name="a", url=url).connect() as client,
    ):
        with pytest.raises(ClientUnavailable, match=words[3:20]) as unavailable:
            await client.version()

    assert unavailable.value.reason == reason


async def test_transmission_gets_a_full_poll_after_a_long_pause() -> None:
    with daemons.Transmission.started() as daemon:
        async with daemon.settings().connect() as client:
            assert isinstance(client, Transmission)
            assert isinstance(await client.observe(), Snapshot)
            assert isinstance(await client.observe(), Delta)
            assert client._observed is not None
            session, at = client._observed

            client._observed = session, at - 51

            assert isinstance(await client.observe(), Snapshot)


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_restart_of_transmission_is_detected_by_its_uptime(
    restarted: bool,
) -> None:
    """A new session id by itself says nothing: there is one every hour."""
    with daemons.Transmission.started() as daemon:
        async with daemon.settings().connect() as client:
            assert isinstance(client, Transmission)

            async def seconds_active() -> int:
                return (await client._rpc.call(Stats, "session-stats")).current_stats.seconds_active

            async def runs_for_two_seconds() -> bool:
                return await seconds_active() >= 2  # a slow start may take more

            await eventually(runs_for_two_seconds)
            await client.observe()
            assert client._observed is not None
            seconds_ago = await seconds_active() + 0.2 if restarted else 0.0
            client._observed = client._last = "another", client._observed[1] - seconds_ago

            assert await client.observe() == Snapshot([], restarted=restarted)


async def test_qbittorrent_gets_a_full_poll_after_a_lost_answer() -> None:
    with daemons.QBittorrent.started() as daemon:
        async with daemon.settings().connect() as client:
            assert isinstance(await client.observe(), Snapshot)
            assert isinstance(await client.observe(), Delta)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await client.observe()

            assert isinstance(await client.observe(), Snapshot)


async def test_an_unknown_state_is_passed_on_as_unknown() -> None:
    async def next_year(_: web.Request) -> web.Response:
        torrents = {ITEM: {"name": "Dune", "state": "dreaming"}}
        return web.json_response({"rid": 1, "full_update": True, "torrents": torrents})

    async with serving(next_year) as url, qbittorrent(url).connect() as client:
        seen = await client.observe()

    assert isinstance(seen, Snapshot)
    assert [(status.phase, status.client_state) for status in seen.items] == [
        (Phase.UNKNOWN, "dreaming")
    ]


async def test_partial_answer_to_a_full_poll_is_a_protocol_error() -> None:
    async def partly(_: web.Request) -> web.Response:
        return web.json_response({"rid": 1})

    async with serving(partly) as url, qbittorrent(url).connect() as client:
        with pytest.raises(ClientUnavailable, match="the answer to a full poll is partial"):
            await client.observe()


async def test_a_disk_error_without_a_log_line_is_still_a_failure() -> None:
    async def failing(request: web.Request) -> web.Response:
        if request.path.endswith("log/main"):
            return web.json_response([{"message": "all is well"}])
        torrents = {ITEM: {"name": "Dune", "state": "error"}}
        return web.json_response({"rid": 1, "full_update": True, "torrents": torrents})

    async with serving(failing) as url, qbittorrent(url).connect() as client:
        seen = await client.observe()

    assert isinstance(seen, Snapshot)
    assert [status.reason for status in seen.items] == ["client_error"]


async def test_a_source_that_qbittorrent_52_does_not_add_is_refused() -> None:
    async def refusing(request: web.Request) -> web.Response:
        if request.path.endswith("torrents/add"):
            return web.json_response({"failure_count": 1}, status=409)
        return web.json_response([])

    async with serving(refusing) as url, qbittorrent(url).connect() as client:
        with pytest.raises(ClientRefused, match="failure_count"):
            await client.add(magnet(), title="", category=None)


@pytest.mark.parametrize(
    ("words", "why"), [("Fails.", "refused: 'Fails.'"), ("Ok.", "did not list it in 0.3 s")]
)
async def test_an_add_without_a_listed_download_is_refused(words: str, why: str) -> None:
    async def losing(request: web.Request) -> web.Response:
        if request.path.endswith("torrents/add"):
            return web.Response(text=words)
        return web.json_response([])

    async with serving(losing) as url, qbittorrent(url, timeout=0.3).connect() as client:
        with pytest.raises(ClientRefused, match=why):
            await client.add(magnet(), title="", category=None)


def test_each_refused_login_delays_the_next_up_to_an_hour() -> None:
    backoff = LoginBackoff()
    backoff.check()
    waits = []
    for _ in range(6):
        waits.append(backoff._wait)
        backoff.refused(ClientUnavailable("authentication", "no"))
        with pytest.raises(ClientUnavailable, match="not tried again for"):
            backoff.check()
    backoff.accepted()
    backoff.check()

    assert waits[0] == FIRST_WAIT
    assert waits == sorted(waits)
    assert waits[-1] == MAX_WAIT
    assert sum(waits[:4]) > 2000  # seconds that five tries, qBittorrent's limit, take at least

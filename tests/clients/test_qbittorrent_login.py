"""Why qBittorrent, or a proxy before it, does not let mediabus in: each is said as what it is."""

from collections.abc import Iterator

import msgspec
import pytest
from aiohttp import web

from mediabus.service.clients.port import ClientUnavailable
from tests.clients.conftest import everything
from tests.clients.test_dialects import qbittorrent as faked
from tests.clients.test_dialects import serving
from tests.support.daemons import QBittorrent


class ChoosyQBittorrent(QBittorrent):
    """One that is to be called by one host name only."""

    def configure(self) -> None:
        super().configure()
        path = self.home / "qBittorrent" / "config" / "qBittorrent.conf"
        text = path.read_text().replace(
            "WebUI\\Address", "WebUI\\ServerDomains=films.example\nWebUI\\Address"
        )
        path.write_text(text)


@pytest.fixture(scope="module")
def shared_daemon() -> Iterator[ChoosyQBittorrent]:
    with ChoosyQBittorrent.started() as running:
        yield running


async def test_a_refused_host_name_is_not_a_wrong_password(
    daemon: ChoosyQBittorrent,
) -> None:
    url = daemon.url.replace("127.0.0.1", "localhost")
    elsewhere = msgspec.structs.replace(daemon.settings(), url=url)

    async with elsewhere.connect() as client:
        for _ in range(2):  # it is tried again at once: no password was sent
            with pytest.raises(ClientUnavailable, match="'localhost' to the server domains") as no:
                await client.observe()
            assert no.value.reason == "protocol"

    async with daemon.settings().connect() as client:
        assert await everything(client) == []


async def test_a_refused_origin_is_not_a_wrong_password(daemon: ChoosyQBittorrent) -> None:
    """A proxy that passes on another site's Origin."""
    async with daemon.settings().connect() as client:
        http = client._http  # type: ignore[attr-defined]
        http._session.headers["Origin"] = "http://films.example"

        with pytest.raises(ClientUnavailable, match="no Origin") as no:
            await client.observe()
    assert no.value.reason == "protocol"


@pytest.mark.parametrize(
    ("status", "headers", "user", "words", "reason"),
    [
        (
            401,
            {"WWW-Authenticate": 'Basic realm="nas"'},
            "",
            "Put it into `url`",
            "authentication",
        ),
        (
            401,
            {"WWW-Authenticate": "Basic"},
            "a:b@",
            "refused the login in `url`",
            "authentication",
        ),
        (401, {}, "a:b@", "refused the login in `url`", "authentication"),
        (401, {}, "", "server domains", "protocol"),
        (403, {}, "", "the proxy in front of qBittorrent", "authentication"),
    ],
)
async def test_a_refusal_by_a_proxy_is_distinguished(
    status: int, headers: dict[str, str], user: str, words: str, reason: str
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, headers=headers, text="<html>no</html>")

    async with serving(answer) as url, faked(url.replace("//", f"//{user}")).connect() as client:
        with pytest.raises(ClientUnavailable, match=words) as no:
            await client.observe()

    assert no.value.reason == reason


async def test_a_ban_is_a_ban_in_any_language() -> None:
    async def answer(request: web.Request) -> web.Response:
        words = "Ihre IP-Adresse wurde gesperrt" if "login" in request.path else "Forbidden"
        return web.Response(status=403, text=words)

    async with serving(answer) as url, faked(url).connect() as client:
        with pytest.raises(ClientUnavailable, match="gesperrt") as no:
            await client.observe()

    assert no.value.reason == "banned"

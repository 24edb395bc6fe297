"""Clients behind a certificate signed by a private authority."""

import dataclasses
import ssl
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from aiohttp import web

from mediabus.secure import certificates
from mediabus.service.clients import AnyClientSettings
from mediabus.service.clients.http import HttpSettings
from mediabus.service.clients.port import ClientUnavailable, Snapshot
from tests.clients.test_dialects import serving
from tests.support import daemons
from tests.support.daemons import HOST

OVER_HTTP = [kind for kind in get_args(AnyClientSettings) if issubclass(kind, HttpSettings)]


@dataclasses.dataclass(frozen=True)
class Certificate:
    """Files: a server's certificate, its key, and the authority that signed it."""

    path: Path
    key: Path
    authority: Path

    def context(self) -> ssl.SSLContext:
        """What a server needs of them."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path, self.key)
        return context


def certify(directory: Path, host: str) -> Certificate:
    """From an authority that is new, for a server at ``host``."""
    directory.mkdir()
    made = Certificate(directory / "server.pem", directory / "server.key", directory / "ca.pem")
    authority, authority_key = certificates.authority()
    certificate, key = certificates.server([host], authority, authority_key)
    made.path.write_text(certificate)
    made.key.write_text(key)
    made.authority.write_text(authority)
    return made


async def patience(_: web.Request) -> web.Response:
    """The sign that a call has arrived."""
    return web.Response(status=429)


@pytest.mark.parametrize("settings", OVER_HTTP)
async def test_only_the_configured_authority_is_trusted(
    settings: type[HttpSettings], tmp_path: Path
) -> None:
    mine, another = certify(tmp_path / "mine", HOST), certify(tmp_path / "another", HOST)
    elsewhere = certify(tmp_path / "elsewhere", "nas.example")
    reasons = []

    for server, trusted in (
        (mine, str(mine.authority)),
        (mine, str(another.authority)),
        (mine, None),
        (elsewhere, str(elsewhere.authority)),
    ):
        async with (
            serving(patience, tls=server.context()) as url,
            settings(name="a", url=url, tls_ca=trusted).connect() as client,
        ):
            with pytest.raises(ClientUnavailable) as unavailable:
                await client.observe()
        reasons.append(unavailable.value.reason)

    assert reasons == ["rate_limited", "tls", "tls", "tls"]


class SecureQBittorrent(daemons.QBittorrent):
    """Its web page has a certificate."""

    scheme = "https"

    def configure(self) -> None:
        super().configure()
        self.certificate = certify(self.home / "certificate", HOST)
        (path,) = self.home.rglob("qBittorrent.conf")
        secure = (
            "[Preferences]\nWebUI\\HTTPS\\Enabled=true\n"
            f"WebUI\\HTTPS\\CertificatePath={self.certificate.path}\n"
            f"WebUI\\HTTPS\\KeyPath={self.certificate.key}\n"
        )
        path.write_text(path.read_text().replace("[Preferences]\n", secure))


async def test_a_real_client_is_spoken_to_over_tls() -> None:
    with SecureQBittorrent.started() as daemon:
        settings = daemon.settings()
        authority = str(daemon.certificate.authority)
        async with msgspec.structs.replace(settings, tls_ca=authority).connect() as client:
            assert await client.observe() == Snapshot([])
        async with settings.connect() as client:
            with pytest.raises(ClientUnavailable, match="certificate verify failed") as unavailable:
                await client.observe()

    assert unavailable.value.reason == "tls"

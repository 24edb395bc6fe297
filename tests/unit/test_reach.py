"""A URL leads into the internet, and elsewhere only where the settings allow it."""

import ipaddress
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import ResolveResult

from mediabus.runtime.settings import SettingsError
from mediabus.runtime.url_policy import Gate, allowed_hosts, is_public
from mediabus.service.clients.sources import SourceNotAllowed, SourceUnavailable, fetch

NOWHERE = allowed_hosts([])


class Indexer:
    """A web server on loopback, by IPv4 and IPv6, which remembers what it was asked."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[str] = []

    async def respond(self, request: web.Request) -> web.Response:
        self.asked.append(request.path_qs)
        if to := request.query.get("to"):
            return web.Response(status=302, headers={"Location": to})
        return web.Response(body=b"<nzb/>")


@pytest.fixture
async def indexer() -> AsyncIterator[Indexer]:
    it = Indexer()
    application = web.Application()
    application.router.add_get("/{path:.*}", it.respond)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    it.port = runner.addresses[0][1]
    await web.TCPSite(runner, "::1", it.port).start()
    yield it
    await runner.cleanup()


OURS = [
    "127.0.0.1",
    "127.1.2.3",
    "0x7f000001",
    "0x7f.1",
    "localhost",
    "LOCALHOST",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
]


ODD = ["127.1", "2130706433", "0177.0.0.1", "0"]
"""What the HTTP library itself takes for no address."""


@pytest.mark.parametrize("host", ODD)
async def test_an_address_in_odd_digits_leads_nowhere(indexer: Indexer, host: str) -> None:
    with pytest.raises(SourceUnavailable):
        await fetch(f"http://{host}:{indexer.port}/", NOWHERE)
    assert indexer.asked == []


@pytest.mark.parametrize("host", OURS)
async def test_no_way_to_write_this_machine_gets_around_it(indexer: Indexer, host: str) -> None:
    with pytest.raises(SourceNotAllowed) as refused:
        await fetch(f"http://{host}:{indexer.port}/a?key=secret", NOWHERE)

    assert "allowed_hosts" in str(refused.value)
    assert "secret" not in str(refused.value)
    assert indexer.asked == []


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("9.9.9.9", True),
        ("2620:fe::fe", True),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("192.0.2.1", False),
        ("198.18.0.1", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("0.0.0.0", False),
        ("::", False),
        ("fd00::1", False),
        ("fe80::1", False),
        ("fec0::1", False),
        ("ff02::1", False),
        ("::7f00:1", False),
        ("2001:db8::1", False),
    ],
)
def test_only_a_single_machine_in_the_internet_is_public(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1", "is this machine"),
        ("10.0.0.1", "is not a public address"),
        ("::ffff:10.0.0.1", "is not a public address"),
        ("64:ff9b::a00:1", "is not a public address"),
        ("2002:a00:1::", "is not a public address"),
        ("fe80::1%lo", "is not a public address"),
        ("10.1", "is not a plain address"),
    ],
)
def test_a_gate_has_the_reason_of_a_refusal(address: str, why: str) -> None:
    gate = Gate(NOWHERE, "host", 80)

    with pytest.raises(OSError, match=why):
        gate.socket((2, 1, 6, "", (address, 80)))
    assert gate.refused == why


@pytest.mark.parametrize(
    "address",
    [
        "9.9.9.9",
        "2620:fe::fe",
        "64:ff9b::909:909",
        "::ffff:9.9.9.9",
        "::ffff:10.0.0.1",
        "2002:a00:1::",
    ],
)
def test_a_gate_opens_to_the_internet_and_to_what_is_allowed(address: str) -> None:
    gate = Gate(allowed_hosts(["10.0.0.0/8"]), "host", 80)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    with gate.socket((family, socket.SOCK_STREAM, 0, "", (address, 80))) as opened:
        assert opened.family == family


async def test_a_redirect_is_judged_like_the_url_itself(indexer: Indexer) -> None:
    here = f"http://127.0.0.1:{indexer.port}/?to=http://localhost:{indexer.port}/metadata"

    with pytest.raises(SourceNotAllowed, match="localhost"):
        await fetch(here, allowed_hosts([f"127.0.0.1:{indexer.port}"]))
    assert len(indexer.asked) == 1


async def test_a_name_is_judged_by_the_address_that_is_connected_to(
    indexer: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def rebound(_: Any, host: str, port: int = 0, **__: Any) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=6, flags=0
            )
        ]

    monkeypatch.setattr(aiohttp.ThreadedResolver, "resolve", rebound)
    with pytest.raises(SourceNotAllowed, match=r"rebind\.example"):
        await fetch(f"http://rebind.example:{indexer.port}/", NOWHERE)
    assert indexer.asked == []


@pytest.mark.parametrize(
    ("allowed", "host"),
    [
        (["127.0.0.1"], "127.0.0.1"),
        (["Localhost."], "localhost"),
        (["localhost:{port}"], "localhost"),
        (["127.0.0.0/8"], "127.0.0.1"),
        (["::1"], "[::1]"),
        (["[::1]:{port}"], "[::1]"),
        (["10.0.0.0/8", "127.0.0.0/8", "::1"], "localhost"),
    ],
)
async def test_allowed_hosts_are_reached(indexer: Indexer, allowed: list[str], host: str) -> None:
    entries = [entry.format(port=indexer.port) for entry in allowed]

    await fetch(f"http://{host}:{indexer.port}/", allowed_hosts(entries))
    assert indexer.asked == ["/"]


@pytest.mark.parametrize("entry", ["localhost:1", "127.0.0.1:1", "10.0.0.0/8", "host"])
async def test_an_allowed_host_allows_no_other_host(indexer: Indexer, entry: str) -> None:
    with pytest.raises(SourceNotAllowed):
        await fetch(f"http://127.0.0.1:{indexer.port}/", allowed_hosts([entry]))


@pytest.mark.parametrize("entry", ["", "http://prowlarr", "a/b", "10.0.0.1/8", "a:x", "u@a", "a\n"])
def test_an_invalid_entry_is_refused(entry: str) -> None:
    with pytest.raises(SettingsError, match=r"downloads\.allowed_hosts"):
        allowed_hosts([entry])

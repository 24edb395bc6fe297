"""What is recognised as a download, and what is refused with a clear message."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import bencode2
import pytest
from aiohttp import web

from mediabus.runtime.url_policy import allowed_hosts
from mediabus.schemas.status import ItemId
from mediabus.service.clients.magnets import parse_magnet, usable_magnet
from mediabus.service.clients.metainfo import parse_torrent
from mediabus.service.clients.port import ClientRefused, Magnet, NzbFile, Source, TorrentFile
from mediabus.service.clients.sources import (
    SourceUnavailable,
    fetch,
    infohash,
    infohashes,
    one_torrent,
    recognise,
    torrent_for,
)

HEX = "0123456789abcdef0123456789abcdef01234567"
SHA256 = "ab" * 32
INFO: dict[bytes, Any] = {
    b"length": 5,
    b"name": "Dune – été.mkv".encode(),  # noqa: RUF001 - names are like that
    b"piece length": 16384,
    b"pieces": bytes(20),
}


def torrent(**changes: object) -> bytes:
    """A torrent file whose info dictionary has these changes; None takes a key away."""
    named = {key.replace("_", " ").encode(): value for key, value in changes.items()}
    info = {key: value for key, value in (INFO | named).items() if value is not None}
    return bencode2.bencode({b"announce": b"http://tracker", b"info": info})


def digest(algorithm: str, content: bytes) -> str:
    info = bencode2.bencode(bencode2.bdecode(content)[b"info"])
    return hashlib.new(algorithm, info).hexdigest()[:40]


def test_a_torrent_has_its_name_and_the_sha1_of_its_info() -> None:
    content = torrent()

    seen = parse_torrent(content)

    assert seen.name == "Dune – été.mkv"  # noqa: RUF001
    assert seen.infohashes == (digest("sha1", content),)
    assert infohash(TorrentFile(content)) == digest("sha1", content)


def test_a_version_2_torrent_has_the_cut_sha256() -> None:
    content = torrent(length=None, pieces=None, file_tree={b"a": {}}, meta_version=2)

    assert infohashes(TorrentFile(content)) == (digest("sha256", content),)


def test_a_hybrid_has_two_infohashes_and_v1_is_its_id() -> None:
    content = torrent(file_tree={b"a": {}}, meta_version=2)

    assert infohashes(TorrentFile(content)) == (digest("sha1", content), digest("sha256", content))
    assert infohash(TorrentFile(content)) == digest("sha1", content)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not a torrent file: empty"),
        (b"<html>not found</html>", "not a torrent file"),
        (torrent()[:-1], "not a torrent file"),
        (b"d4:spam4:eggse", "no info dictionary"),
        (b"le", "no info dictionary"),
        (b"d4:infoi1ee", "no info dictionary"),
        (torrent(name=None), "no name"),
        (torrent(name=1), "no name"),
        (torrent(pieces=None), "neither pieces nor a file tree"),
        (torrent(pieces=bytes(19)), "not SHA-1"),
        (torrent(pieces=b""), "not SHA-1"),
        (torrent(pieces=1), "not SHA-1"),
        (torrent(piece_length=0), "no piece length"),
        (torrent(piece_length=None), "no piece length"),
        (torrent(length=None), "names no files"),
    ],
)
def test_an_invalid_torrent_is_refused_with_the_reason(content: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_torrent(content)


@pytest.mark.parametrize(
    ("uri", "hashes"),
    [
        (f"magnet:?xt=urn:btih:{HEX}", (HEX,)),
        (f"MAGNET:?dn=a&XT=x&xt=URN:BTIH:{HEX.upper()}&tr=http%3A%2F%2Ft", (HEX,)),
        (f" magnet:?xt.1=urn:btih:{HEX}\n", (HEX,)),
        (f"magnet:?xt=urn:btih:{base64.b32encode(bytes.fromhex(HEX)).decode()}", (HEX,)),
        (f"magnet:?xt=urn:btih:{base64.b32encode(bytes.fromhex(HEX)).decode().lower()}", (HEX,)),
        (f"magnet:?xt=urn:btmh:1220{SHA256}", (SHA256[:40],)),
        (f"magnet:?xt=urn:btmh:1220{SHA256}&xt=urn:btih:{HEX}", (HEX, SHA256[:40])),
        (f"\u200b\ufeff\xa0 magnet:?xt=urn:btih:{HEX}\r\n", (HEX,)),
        (f"magnet:?xt=urn:btih:{HEX}&dn=no\xa0break", (HEX,)),
        (f"magnet:?xt=urn:btih:{HEX}&dn=👩\u200d🚀 soft\xadhyphen été", (HEX,)),
        (f"magnet:?xt=urn:btih:{HEX}&dn=\u200fright to left\u202e", (HEX,)),
        (f"magnet:?dn=a&XT=urn%3Abtih%3A{HEX}", (HEX,)),
    ],
)
def test_a_magnet_link_has_its_infohashes(uri: str, hashes: tuple[str, ...]) -> None:
    assert infohashes(Magnet(uri)) == hashes


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("", "must begin with magnet"),
        (f"http://magnet:?xt=urn:btih:{HEX}", "must begin with magnet"),
        ("magnet:?dn=only+a+name", "has no xt"),
        ("magnet:?xt=urn:sha1:YNCKHTQCWBTRNJIV4WNAE52SJUQCZO5C", "has no xt"),
        ("magnet:?xt=urn:btih:0123", "not an infohash"),
        (f"magnet:?xt=urn:btih:{HEX[:-1]}g", "not an infohash"),
        ("magnet:?xt=urn:btih:" + "1" * 32, "not base32"),
        ("magnet:?xt=urn:btmh:1220abcd", "not a SHA-256 multihash"),
        (f"magnet:?xt=urn:btmh:1120{SHA256}", "not a SHA-256 multihash"),
    ],
)
def test_an_invalid_magnet_link_is_refused_with_the_reason(uri: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        infohashes(Magnet(uri))


@pytest.mark.parametrize(
    ("content", "source"),
    [
        (b"d8:announce0:e", TorrentFile(b"d8:announce0:e")),
        (b"magnet:?xt=a\n", Magnet("magnet:?xt=a")),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<nzb xmlns="x"/>', "nzb"),
        (b"<!DOCTYPE NZB><NZB/>", "nzb"),
        (b"<html><body>please log in</body></html>", None),
        (b"", None),
        (b"d", None),
    ],
)
def test_content_is_recognised_by_its_looks(content: bytes, source: Source | str | None) -> None:
    expected = NzbFile(content, "Dune") if source == "nzb" else source

    assert recognise(content, name="Dune.nzb") == expected


def test_a_magnet_link_is_handed_over_as_a_uri() -> None:
    link = f" magnet:?xt=urn:btih:{HEX}&dn=a b%20c 🎬\xad&tr=http://t/a?b=c "

    given = torrent_for("Attic", Magnet(link))

    assert given == Magnet(
        f"magnet:?xt=urn:btih:{HEX}&dn=a%20b%20c%20%F0%9F%8E%AC%C2%AD&tr=http://t/a?b=c"
    )
    assert given == torrent_for("Attic", given)


def test_a_magnet_link_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(ValueError, match="not valid Unicode"):
        usable_magnet(f"magnet:?xt=urn:btih:{HEX}&dn=\ud800")


@pytest.mark.parametrize("mark", ["\n", "\r", "\t", "\0", "\x1b", "\x85", "\u2028", "\u2029"])
def test_a_magnet_link_cannot_smuggle_a_second_url(mark: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        parse_magnet(f"magnet:?xt=urn:btih:{HEX}&dn=a{mark}http://127.0.0.1/")


def test_a_torrent_client_is_not_asked_about_anything_else() -> None:
    fine = TorrentFile(torrent())

    assert torrent_for("Attic", fine) is fine
    with pytest.raises(ClientRefused, match="Attic downloads torrents"):
        torrent_for("Attic", NzbFile(b"<nzb/>", "a"))
    with pytest.raises(ClientRefused, match="not a torrent file"):
        torrent_for("Attic", TorrentFile(b"x"))


@pytest.mark.parametrize("item", ["all", "", HEX.upper(), f"{HEX}|all", HEX + "\n"])
def test_an_id_that_could_mean_more_than_one_torrent_is_refused(item: str) -> None:
    assert one_torrent("Attic", ItemId(HEX)) == HEX
    with pytest.raises(ClientRefused, match="Attic has no download"):
        one_torrent("Attic", ItemId(item))


HERE = allowed_hosts(["127.0.0.1"])
"""A URL may lead to the servers of these tests."""

Serve = Callable[[str], str]


async def respond(request: web.Request) -> web.Response:
    """A web server with what a URL may lead to."""
    pages = {
        "/a.torrent": web.Response(body=torrent()),
        "/broken.torrent": web.Response(body=torrent()[:-1]),
        "/Dune.nzb": web.Response(body=b"<nzb/>"),
        "/get": web.Response(
            body=b"<nzb/>", headers={"Content-Disposition": 'attachment; filename="Dune 2.nzb"'}
        ),
        "/link.txt": web.Response(text=f"magnet:?xt=urn:btih:{HEX}\n"),
        "/login": web.Response(text="<html>please log in</html>"),
        "/large": web.Response(body=bytes(300_000)),
        "/to": web.Response(status=302, headers={"Location": request.query.get("", "/to?=/to")}),
    }
    return pages.get(request.path, web.Response(status=404))


async def say_nothing(_: web.Request) -> web.Response:
    await asyncio.Event().wait()
    return web.Response()


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Gives the URL of a path on ``respond``'s server, with a password in it."""
    application = web.Application()
    application.router.add_get("/silent", say_nothing)
    application.router.add_get("/{path:.*}", respond)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    yield lambda path: f"http://user:secret@127.0.0.1:{port}{path}"
    await runner.cleanup()


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("/a.torrent?key=secret", TorrentFile(torrent())),
        ("/to?=/a.torrent", TorrentFile(torrent())),
        ("/to?=/to%3F=/a.torrent", TorrentFile(torrent())),
        (f"/to?=magnet:%3Fxt%3Durn:btih:{HEX}", Magnet(f"magnet:?xt=urn:btih:{HEX}")),
        ("/link.txt", Magnet(f"magnet:?xt=urn:btih:{HEX}")),
        ("/Dune.nzb", NzbFile(b"<nzb/>", "Dune")),
        ("/get?id=1", NzbFile(b"<nzb/>", "Dune 2")),
    ],
)
async def test_a_url_leads_to_a_download(serve: Serve, path: str, source: Source) -> None:
    assert await fetch(serve(path), HERE) == source


async def test_a_magnet_link_is_accepted_as_a_url() -> None:
    uri = f"magnet:?xt=urn:btih:{HEX}"

    assert await fetch(uri, HERE) == Magnet(uri)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/gone?key=secret", "answered HTTP 404"),
        ("/login", "is not a torrent, nzb or magnet link"),
        ("/broken.torrent", "is not a torrent file"),
        ("/to", "redirects more than"),
        ("/to?=file:///etc/passwd", "not an http, https or magnet URL"),
        ("/to?=http://[broken/", "ValueError"),
        ("/to?=magnet:%3Fdn=a", "not a BitTorrent magnet link"),
        ("/large", "is larger than 200000 bytes"),
        ("/silent", r"did not answer within 0\.3 s"),
    ],
)
async def test_an_unreachable_url_is_reported_without_secrets(
    serve: Serve, path: str, why: str
) -> None:
    with pytest.raises(SourceUnavailable, match=why) as unavailable:
        await fetch(serve(path), HERE, timeout=0.3, max_bytes=200_000)

    assert "secret" not in str(unavailable.value)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "not an http"),
        ("dune.torrent", "not an http"),
        ("ftp://127.0.0.1/a.torrent", "not an http"),
        ("http://", "not an http"),
        ("magnet:?dn=a", "not a BitTorrent magnet link"),
        ("http://127.0.0.1:1/a.torrent", "cannot fetch http://127"),
    ],
)
async def test_an_invalid_url_is_refused(url: str, why: str) -> None:
    with pytest.raises(SourceUnavailable, match=why):
        await fetch(url, HERE)

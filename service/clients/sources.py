"""Check sources before they are sent to a client, and fetch the URLs that lead to them."""

import asyncio
import re
import urllib.parse
from typing import Final, assert_never

import aiohttp
from yarl import URL

from mediabus.runtime.url_policy import Allowed, Gate
from mediabus.schemas.status import ItemId
from mediabus.service.clients.magnets import parse_magnet, usable_magnet
from mediabus.service.clients.metainfo import parse_torrent
from mediabus.service.clients.nzb import is_nzb, name_of
from mediabus.service.clients.port import ClientRefused, Magnet, NzbFile, Source, TorrentFile

MAX_BYTES: Final = 10 * 1024 * 1024
"""Bytes of a file that a URL leads to."""

MAX_REDIRECTS: Final = 10
REDIRECTS: Final = {301, 302, 303, 307, 308}


class SourceUnavailable(Exception):
    """The URL leads to nothing that can be downloaded. The message gives the cause."""


class SourceNotAllowed(Exception):
    """The URL leads to an address that is not allowed. The message names the setting for it."""


def infohashes(source: Magnet | TorrentFile) -> tuple[ItemId, ...]:
    """Return all ids under which a client may list the download.

    A hybrid of versions 1 and 2 has two, any other torrent one.

    Raises:
        ValueError: the source is not a usable torrent. The message is for users.
    """
    match source:
        case Magnet(uri):
            return parse_magnet(uri)
        case TorrentFile(content):
            return parse_torrent(content).infohashes
        case _:
            assert_never(source)


def infohash(source: Magnet | TorrentFile) -> ItemId:
    """Return the id under which most clients list the download.

    This is the version 1 infohash if there is one. qBittorrent with libtorrent 2 lists a hybrid by
    its version 2 infohash.

    Raises:
        ValueError: the source is not a usable torrent.
    """
    return infohashes(source)[0]


def torrent_for(program: str, source: Source) -> Magnet | TorrentFile:
    """Return the torrent in the form that every client accepts.

    Raises:
        ClientRefused: the source is not a usable torrent. The client was not called.
    """
    if isinstance(source, NzbFile):
        raise ClientRefused(f"{program} downloads torrents. Use a usenet client for an nzb")
    try:
        infohashes(source)
        return Magnet(usable_magnet(source.uri)) if isinstance(source, Magnet) else source
    except ValueError as error:
        raise ClientRefused(str(error)) from error


def already_present(program: str, name: object) -> ClientRefused:
    """Return what to raise for a torrent that a client already has, under this name."""
    return ClientRefused(f"{program} already has this download, as {name!r}")


def refused_torrent(error: Exception) -> ClientRefused:
    """Return what to raise for a torrent that a client does not accept."""
    return ClientRefused(f"{error}: it cannot use this torrent file or magnet link")


def one_torrent(program: str, item: ItemId) -> ItemId:
    """Return the item if it is an infohash: clients take words such as ``all`` for every torrent.

    Raises:
        ClientRefused: the item is not an infohash.
    """
    if not re.fullmatch(r"[0-9a-f]{40}", item):
        raise ClientRefused(f"{program} has no download {item!r}")
    return item


async def fetch(
    url: str, allowed: Allowed, *, timeout: float = 30.0, max_bytes: int = MAX_BYTES
) -> Source:
    """Fetch the torrent, nzb or magnet link that an http(s) URL leads to, following redirects.

    ``timeout`` is for all requests together, in seconds.

    Raises:
        SourceUnavailable: the URL leads to none of them, or cannot be fetched.
        SourceNotAllowed: an address is not allowed. Nothing was sent to it.
    """
    try:
        async with asyncio.timeout(timeout):
            return await _follow(url, allowed, max_bytes)
    except TimeoutError as error:
        raise SourceUnavailable(f"{_shown(url)} did not answer within {timeout:g} s") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise SourceUnavailable(f"cannot fetch {_shown(url)}: {type(error).__name__}") from error


async def _follow(url: str, allowed: Allowed, max_bytes: int) -> Source:
    for _ in range(MAX_REDIRECTS):
        if url.lower().startswith("magnet:"):
            return _checked(Magnet(url), url)
        led = await _step(url, allowed, max_bytes)
        if not isinstance(led, str):
            return led
        url = urllib.parse.urljoin(url, led)
    raise SourceUnavailable(f"{_shown(url)} redirects more than {MAX_REDIRECTS} times")


async def _step(url: str, allowed: Allowed, max_bytes: int) -> Source | str:
    """Request the URL once. Returns its content, or the URL that it redirects to."""
    host, port = _host_and_port(url)
    gate = Gate(allowed, host, port)
    connector = aiohttp.TCPConnector(socket_factory=gate.socket)
    try:
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            if response.status in REDIRECTS:
                return response.headers.get("Location", "")
            return await _read(response, url, max_bytes)
    except aiohttp.ClientConnectorError as error:
        if gate.refused is None:
            raise
        raise SourceNotAllowed(
            f"{_shown(url)} {gate.refused}. To allow it, set "
            f'[downloads] allowed_hosts = ["{host}"], or MEDIABUS_DOWNLOADS_ALLOWED_HOSTS={host}'
        ) from error


async def _read(response: aiohttp.ClientResponse, url: str, max_bytes: int) -> Source:
    if response.status != 200:
        raise SourceUnavailable(f"{_shown(url)} answered HTTP {response.status}")
    content = bytearray()
    async for chunk in response.content.iter_chunked(64 * 1024):
        content += chunk
        if len(content) > max_bytes:
            raise SourceUnavailable(f"{_shown(url)} is larger than {max_bytes} bytes")
    disposition = response.content_disposition
    name = (disposition and disposition.filename) or URL(url).name
    return _checked(recognise(bytes(content), name=name), url)


def recognise(content: bytes, *, name: str) -> Source | None:
    """Return the source that the bytes contain, None if unknown. ``name`` is the file name."""
    head = content[:2000].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"d") and b":" in head[:5]:
        return TorrentFile(content)
    if head.startswith(b"magnet:?"):
        return Magnet(content.decode(errors="replace").strip())
    if is_nzb(content):
        return NzbFile(content, name_of(name))
    return None


def _checked(source: Source | None, url: str) -> Source:
    if source is None:
        raise SourceUnavailable(f"{_shown(url)} is not a torrent, nzb or magnet link")
    if not isinstance(source, NzbFile):
        try:
            infohashes(source)
        except ValueError as error:
            raise SourceUnavailable(f"{_shown(url)} is {error}") from error
    return source


def _host_and_port(url: str) -> tuple[str, int | None]:
    parsed = URL(url)
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise SourceUnavailable(f"not an http, https or magnet URL: {_shown(url)}")
    return parsed.host, parsed.port


def _shown(url: str) -> str:
    """Return the URL up to its host: the rest may contain the key of an indexer."""
    shown = re.match(r"(https?://)(?:[^/?#@]*@)?([^/?#]+)", url, re.IGNORECASE)
    return shown[1] + shown[2] if shown else "the given text"

"""What can be downloaded: torrents and magnets are looked through before any client is asked."""

import asyncio
import base64
import binascii
import dataclasses
import hashlib
import re
import urllib.parse
from typing import Final, assert_never

import aiohttp
import bencode2
from yarl import URL

from schemas.status import ItemId
from service.clients.port import ClientRefused, Magnet, NzbFile, Source, TorrentFile
from service.clients.reach import Allowed, Gate

MAX_BYTES: Final = 10 * 1024 * 1024
MAX_REDIRECTS: Final = 10
REDIRECTS: Final = {301, 302, 303, 307, 308}
SHA256_MULTIHASH: Final = "1220"  # function 0x12, 32 bytes: what a btmh begins with (BEP 9)


class SourceUnavailable(Exception):
    """The URL gave nothing that can be downloaded; the message says why."""


class SourceNotAllowed(Exception):
    """The URL leads to where it may not; the message says which setting would let it."""


@dataclasses.dataclass(frozen=True)
class Torrent:
    """What a ``.torrent`` file says of itself. ``infohashes`` are the ids under which a client may
    list it: version 1 first, then version 2 cut to 20 bytes, as clients do (BEP 52)."""

    name: str
    infohashes: tuple[ItemId, ...]


def parse_torrent(content: bytes) -> Torrent:
    """Look through the bytes of a ``.torrent`` file. ValueError says what is wrong with them."""
    try:
        decoded = bencode2.bdecode(content)
    except ValueError as error:
        raise ValueError(f"not a torrent file: {error}") from error
    info = decoded.get(b"info") if isinstance(decoded, dict) else None
    if not isinstance(info, dict):
        raise ValueError("not a torrent file: it has no info dictionary")  # noqa: TRY004
    name = info.get(b"name")
    if not isinstance(name, bytes) or not name:
        raise ValueError("not a usable torrent file: it has no name")
    # bencode2 accepts canonical input alone, so that these are the bytes of the file.
    encoded = bencode2.bencode(info)
    hashes = []
    if b"pieces" in info:
        _must_be_version_1(info)
        hashes.append(hashlib.sha1(encoded).hexdigest())  # noqa: S324 - the protocol's own hash
    if info.get(b"meta version") == 2 and isinstance(info.get(b"file tree"), dict):
        hashes.append(hashlib.sha256(encoded).hexdigest()[:40])
    if not hashes:
        raise ValueError("not a usable torrent file: it names neither pieces nor a file tree")
    return Torrent(name.decode(errors="replace"), tuple(ItemId(text) for text in hashes))


def _must_be_version_1(info: dict[bytes, object]) -> None:
    pieces, length = info[b"pieces"], info.get(b"piece length")
    if not isinstance(pieces, bytes) or not pieces or len(pieces) % 20:
        raise ValueError("not a usable torrent file: its pieces are not SHA-1 hashes")
    if not isinstance(length, int) or length <= 0:
        raise ValueError("not a usable torrent file: it has no piece length")
    if not isinstance(info.get(b"length"), int) and not isinstance(info.get(b"files"), list):
        raise ValueError("not a usable torrent file: it names no files")  # noqa: TRY004


def parse_magnet(uri: str) -> tuple[ItemId, ...]:
    """The infohashes that a magnet link names, as in ``Torrent``. ValueError for anything else."""
    scheme, _, query = uri.strip().partition("?")
    if scheme.lower() != "magnet:":
        raise ValueError("not a magnet link: it must begin with magnet:?")
    if not query.isprintable():  # to a client, a second line may be a second URL
        raise ValueError("not a usable magnet link: it holds a line break or the like")
    topics = [
        value for key, value in urllib.parse.parse_qsl(query) if re.match(r"xt(\.\d+)?$", key)
    ]
    version_1 = [_btih(topic[9:]) for topic in topics if topic.lower().startswith("urn:btih:")]
    version_2 = [_btmh(topic[9:]) for topic in topics if topic.lower().startswith("urn:btmh:")]
    if not version_1 + version_2:
        raise ValueError("not a BitTorrent magnet link: it has no xt=urn:btih:… or xt=urn:btmh:…")
    return tuple(version_1 + version_2)


def _btih(text: str) -> ItemId:
    if re.fullmatch(r"[0-9a-fA-F]{40}", text):
        return ItemId(text.lower())
    try:
        if len(text) == 32:
            return ItemId(base64.b32decode(text.upper()).hex())
    except binascii.Error as error:
        raise ValueError(f"not a usable magnet link: {text!r} is not base32") from error
    raise ValueError(
        f"not a usable magnet link: {text!r} is no infohash (40 hex or 32 base32 digits)"
    )


def _btmh(text: str) -> ItemId:
    if not re.fullmatch(SHA256_MULTIHASH + "[0-9a-fA-F]{64}", text):
        raise ValueError(f"not a usable magnet link: {text!r} is no SHA-256 multihash")
    return ItemId(text[4:44].lower())


def infohashes(source: Magnet | TorrentFile) -> tuple[ItemId, ...]:
    """All ids under which a client may list the download: two for a hybrid of versions 1 and 2,
    else one. ValueError, with a message for people, for what is not a torrent."""
    match source:
        case Magnet(uri):
            return parse_magnet(uri)
        case TorrentFile(content):
            return parse_torrent(content).infohashes
        case _:
            assert_never(source)


def infohash(source: Magnet | TorrentFile) -> ItemId:
    """The id under which most clients list the download: the version 1 infohash if there is one.
    A qBittorrent with libtorrent 2 lists a hybrid by its other one. ValueError as
    ``infohashes``."""
    return infohashes(source)[0]


def torrent_for(program: str, source: Source) -> Magnet | TorrentFile:
    """The source, if it is a torrent that a client can be asked to download. ClientRefused if not,
    before the client is asked."""
    if isinstance(source, NzbFile):
        raise ClientRefused(f"{program} downloads torrents; an nzb is for a usenet client")
    try:
        infohashes(source)
    except ValueError as error:
        raise ClientRefused(str(error)) from error
    return source


def one_torrent(program: str, item: ItemId) -> ItemId:
    """The item, if it can be one torrent's id and nothing else: some words, such as ``all``, mean
    every torrent to a client. ClientRefused if not."""
    if not re.fullmatch(r"[0-9a-f]{40}", item):
        raise ClientRefused(f"{program} has no download {item!r}")
    return item


async def fetch(
    url: str, allowed: Allowed, *, timeout: float = 30.0, max_bytes: int = MAX_BYTES
) -> Source:
    """What an http(s) URL leads to: a torrent, an nzb, or a magnet link, itself or at the end of
    redirects. ``timeout`` in seconds for all of it. Raises ``SourceUnavailable``, and
    ``SourceNotAllowed`` before anything is sent to where it may not lead."""
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
    raise SourceUnavailable(f"{_shown(url)} redirects without end")


async def _step(url: str, allowed: Allowed, max_bytes: int) -> Source | str:
    """What the URL itself gives, or where it redirects to."""
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
            f"{_shown(url)} {gate.refused}: a URL may only lead there where the settings have "
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
    """What these bytes are by their looks; ``name`` is the file's. None for neither of them."""
    head = content[:2000].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"d") and b":" in head[:5]:
        return TorrentFile(content)
    if head.startswith(b"magnet:?"):
        return Magnet(content.decode(errors="replace").strip())
    if head.startswith(b"<") and b"<nzb" in head:
        return NzbFile(content, name.removesuffix(".nzb"))
    return None


def _checked(source: Source | None, url: str) -> Source:
    if source is None:
        raise SourceUnavailable(f"{_shown(url)} is neither a torrent nor an nzb nor a magnet link")
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
    """The URL down to its host: path, query and password may hold an indexer's key."""
    shown = re.match(r"(https?://)(?:[^/?#@]*@)?([^/?#]+)", url, re.IGNORECASE)
    return shown[1] + shown[2] if shown else "what was given"

"""A swarm of one: a seeder and a tracker on loopback, for downloads that are real and private."""

import contextlib
import dataclasses
import hashlib
import random
import socket
import struct
import urllib.parse
from collections.abc import AsyncIterator
from pathlib import Path

import bencode2
import libtorrent
from aiohttp import web

from mediabus.schemas.status import ItemId
from mediabus.service.clients.port import TorrentFile
from mediabus.service.clients.sources import infohashes

HOST = "127.0.0.1"
PIECE = 16 * 1024
ALONE: "libtorrent.settings_pack" = {
    "listen_interfaces": f"{HOST}:0",
    "outgoing_interfaces": HOST,
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_outgoing_utp": False,
    "enable_incoming_utp": False,
    "allow_multiple_connections_per_ip": True,
    "min_reconnect_time": 1,
    "alert_mask": 0,
    "unchoke_interval": 1,
}
"""A session that uses only loopback, and only peers that it is given."""


@dataclasses.dataclass(frozen=True)
class Shared:
    """A torrent that the swarm has; ``size`` in bytes."""

    name: str
    size: int
    content: bytes = dataclasses.field(repr=False)  # the .torrent file
    infohash: ItemId
    magnet: str
    payload: bytes = dataclasses.field(repr=False)


def make_torrent(name: str, payload: bytes, announce: str, *, private: bool = True) -> Shared:
    """A single-file torrent (version 1) of ``payload``."""
    hashes = [hashlib.sha1(payload[i : i + PIECE]).digest() for i in range(0, len(payload), PIECE)]
    info = {
        b"length": len(payload),
        b"name": name.encode(),
        b"piece length": PIECE,
        b"pieces": b"".join(hashes),
    } | ({b"private": 1} if private else {})
    infohash = hashlib.sha1(bencode2.bencode(info)).hexdigest()
    query = urllib.parse.urlencode({"dn": name, "tr": announce}, quote_via=urllib.parse.quote)
    return Shared(
        name=name,
        size=len(payload),
        content=bencode2.bencode({b"announce": announce.encode(), b"info": info}),
        infohash=ItemId(infohash),
        magnet=f"magnet:?xt=urn:btih:{infohash}&{query}",
        payload=payload,
    )


def make_folder(name: str, files: dict[str, bytes], announce: str) -> Shared:
    """A torrent (version 1) of a folder with these files."""
    payload = b"".join(files.values())
    hashes = [hashlib.sha1(payload[i : i + PIECE]).digest() for i in range(0, len(payload), PIECE)]
    info = {
        b"files": [{b"length": len(it), b"path": [file.encode()]} for file, it in files.items()],
        b"name": name.encode(),
        b"piece length": PIECE,
        b"pieces": b"".join(hashes),
        b"private": 1,
    }
    infohash = hashlib.sha1(bencode2.bencode(info)).hexdigest()
    return Shared(
        name=name,
        size=len(payload),
        content=bencode2.bencode({b"announce": announce.encode(), b"info": info}),
        infohash=ItemId(infohash),
        magnet=f"magnet:?xt=urn:btih:{infohash}",
        payload=payload,
    )


class Swarm:
    """The seeder of all that is shared, and the tracker that tells where it is."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._session = libtorrent.session(ALONE)
        self._handles: dict[bytes, libtorrent.torrent_handle] = {}
        self.tracker = ""
        self.refusal = ""  # what the tracker says to all, if anything, in place of where we are

    def share(
        self,
        name: str = "payload.bin",
        *,
        size: int = 1 << 20,
        rate: int = 0,
        private: bool = True,
    ) -> Shared:
        """Seed ``size`` random bytes as a file called ``name``.

        ``rate`` is in bytes per second for all peers together; 0 means without limit. The magnet
        link of a private torrent finds no metadata: peers do not exchange it.
        """
        payload = random.randbytes(size)
        shared = make_torrent(name, payload, self.tracker, private=private)
        (self._directory / name).write_bytes(payload)
        return self._seed(shared, rate)

    def share_folder(self, name: str, sizes: dict[str, int], *, rate: int = 0) -> Shared:
        """As ``share``, a folder with files of these sizes."""
        files = {file: random.randbytes(size) for file, size in sizes.items()}
        (self._directory / name).mkdir()
        for file, content in files.items():
            (self._directory / name / file).write_bytes(content)
        return self._seed(make_folder(name, files, self.tracker), rate)

    def share_hybrid(self, name: str, *, size: int = 1 << 20, rate: int = 0) -> Shared:
        """As ``share``, a torrent of versions 1 and 2 whose magnet link names version 1 alone."""
        payload = random.randbytes(size)
        (self._directory / name).write_bytes(payload)
        made = libtorrent.create_torrent([libtorrent.create_file_entry(name, size)], PIECE)
        made.add_tracker(self.tracker)
        libtorrent.set_piece_hashes(made, str(self._directory))
        content = libtorrent.bencode(made.generate())
        version_1 = infohashes(TorrentFile(content))[0]
        query = urllib.parse.urlencode({"dn": name, "tr": self.tracker})
        magnet = f"magnet:?xt=urn:btih:{version_1}&{query}"
        return self._seed(Shared(name, size, content, version_1, magnet, payload), rate)

    def _seed(self, shared: Shared, rate: int) -> Shared:
        torrent = libtorrent.load_torrent_buffer(shared.content)
        torrent.save_path = str(self._directory)
        torrent.trackers = []  # the test gives the daemon the address of the seeder
        torrent.flags = libtorrent.torrent_flags.seed_mode
        self._handles[bytes.fromhex(shared.infohash)] = self._session.add_torrent(torrent)
        self.limit(shared, rate)
        return shared

    def limit(self, shared: Shared, rate: int) -> None:
        """Seed this one at ``rate`` bytes a second from now on; 0 for no limit."""
        self._handles[bytes.fromhex(shared.infohash)].set_upload_limit(rate or -1)

    def abandon(self, shared: Shared) -> None:
        """Seed this one no more."""
        self._session.remove_torrent(self._handles.pop(bytes.fromhex(shared.infohash)))

    async def _announced(self, request: web.Request) -> web.Response:
        if self.refusal:
            refusal = {b"failure reason": self.refusal.encode()}
            return web.Response(body=bencode2.bencode(refusal))
        query = urllib.parse.parse_qs(request.path_qs.partition("?")[2], encoding="latin-1")
        handle = self._handles.get(query["info_hash"][0].encode("latin-1"))
        if handle is not None and query["peer_id"][0].startswith("-TR"):
            # Transmission takes 127.0.0.0/8 for an impossible peer and never calls, but it answers.
            handle.connect_peer((HOST, int(query["port"][0])))
        seeder = socket.inet_aton(HOST) + struct.pack("!H", self._session.listen_port())
        return web.Response(body=bencode2.bencode({b"interval": 5, b"peers": seeder}))


@contextlib.asynccontextmanager
async def swarm(directory: Path) -> AsyncIterator[Swarm]:
    """A swarm whose files are kept in ``directory``; nothing of it reaches beyond 127.0.0.1."""
    it = Swarm(directory)
    application = web.Application()
    application.router.add_get("/announce", it._announced)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, 0)
        await site.start()
        it.tracker = f"http://{HOST}:{runner.addresses[0][1]}/announce"
        yield it
    finally:
        await runner.cleanup()
        del it._session

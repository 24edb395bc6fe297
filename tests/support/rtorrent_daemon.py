"""A real rTorrent with a throw-away profile, quiet beyond loopback before it starts."""

import re
import socket
import subprocess
import time
import xmlrpc.client
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from mediabus.schemas.status import ItemId, Phase
from mediabus.service.clients.port import DownloadClient
from mediabus.service.clients.rtorrent import RTorrentSettings, session
from mediabus.service.clients.scgi import request
from tests.support.daemons import HOST, Daemon

SAVED_WITHIN: Final = 5.0
"""Seconds after which it is ended all the same: a magnet link without metadata is not saved."""


class RTorrent(Daemon):
    """rtorrent, 0.9.8 or later, without its screen."""

    program = "rtorrent"
    scheme = "scgi"
    has_password = False
    dies_of_a_full_disk = True
    not_writable = ("cannot open the files", "Not a directory")  # the second since 0.16

    def shown_name(self, name: str, version: str) -> str:
        """Return the name as its XML shows it.

        It has no characters of four bytes, and control characters that XML does not allow. 0.16
        also percent-encodes such characters in file names.
        """
        board = "\N{CLAPPER BOARD}"
        shown = "????" if version.startswith("0.9") else quote(board)
        return re.sub("[\a\x1b]", "", name.replace(board, shown))

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        shown = subprocess.run([self.executable, "-h"], capture_output=True, check=False).stdout
        if b"version 0.9" not in shown:
            # It may start again, or stay stopped without a message.
            self.vanished_otherwise = frozenset({Phase.DOWNLOADING, Phase.PAUSED})

    def configure(self) -> None:
        (self.home / "session").mkdir()
        configuration = RTORRENT_RC.format(
            host=HOST,
            home=self.home,
            downloads=self.downloads,
            port=self.port,
            peer_port=self.peer_port,
        )
        (self.home / "rtorrent.rc").write_text(configuration)

    def command(self) -> list[str]:
        return [self.executable, "-n", "-o", f"import={self.home}/rtorrent.rc"]

    def keeps(self, item: ItemId) -> bool:
        kept = (self.home / "session" / f"{item.upper()}.torrent{it}" for it in ("", ".rtorrent"))
        return all(path.exists() and path.stat().st_size for path in kept)

    def stop(self, *, within: float = 15.0) -> None:
        """Kill it: it keeps its state.

        On SIGTERM, it would wait for an announce to its tracker, and the tracker, in this process,
        would wait for it.
        """
        there = self._asked("d.multicall2", within, "", "main", "d.hash=", "d.state=")
        self._asked("session.save", within)
        deadline = time.monotonic() + SAVED_WITHIN  # 0.16 answers before it has written
        while time.monotonic() < deadline and not self._are_saved(there):
            time.sleep(0.02)
        self.kill()

    def _asked(self, method: str, within: float, *params: str) -> object:
        """Its answer, on a connection that does not outlive it."""
        answer = b""
        with socket.create_connection((HOST, self.port), within) as connection:
            connection.sendall(request(xmlrpc.client.dumps(params, method).encode()))
            while chunk := connection.recv(65536):
                answer += chunk
        return xmlrpc.client.loads(answer.partition(b"\r\n\r\n")[2].decode())[0][0]

    def _are_saved(self, there: object) -> bool:
        assert isinstance(there, list)
        session = self.home / "session"
        return all(
            self.keeps(item)
            and b"5:statei%de" % state in (session / f"{item}.torrent.rtorrent").read_bytes()
            for item, state in there
        )

    async def want(self, client: DownloadClient, item: ItemId, wanted: Sequence[bool]) -> None:
        assert isinstance(client, session.RTorrent)
        for index, is_wanted in enumerate(wanted):
            file = f"{item.upper()}:f{index}"
            await client._rpc.call("f.priority.set", file, int(is_wanted))
        await client._rpc.call("d.update_priorities", item.upper())

    def settings(self, *, name: str = "", password: str = "") -> RTorrentSettings:  # noqa: ARG002
        """It knows no password."""
        return RTorrentSettings(name=name or "rtorrent", url=self.url)


RTORRENT_RC = """\
system.daemon.set = true
network.bind_address.set = {host}
network.local_address.set = {host}
network.port_range.set = {peer_port}-{peer_port}
network.port_random.set = no
network.scgi.open_port = {host}:{port}
dht.mode.set = disable
protocol.pex.set = no
trackers.use_udp.set = no
session.path.set = {home}/session
directory.default.set = {downloads}
"""

"""A real rTorrent with a throw-away profile, quiet beyond loopback before it starts."""

import re
import socket
import xmlrpc.client

from schemas.status import ItemId
from service.clients.rtorrent import RTorrentSettings
from service.clients.scgi import request
from tests.support.daemons import HOST, Daemon


class RTorrent(Daemon):
    """rtorrent, 0.9.8 or later, without its screen."""

    program = "rtorrent"
    scheme = "scgi"
    has_password = False
    dies_of_a_full_disk = True
    not_writable = "cannot open the files"

    def shown_name(self, name: str, version: str) -> str:  # noqa: ARG002
        """Its XML has no letters of four bytes, and control characters that no XML may have."""
        return re.sub("[\a\x1b]", "", name.replace("\N{CLAPPER BOARD}", "????"))

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
        return (self.home / "session" / f"{item.upper()}.torrent.rtorrent").exists()

    def stop(self, *, within: float = 15.0) -> None:
        """It keeps what it knows and is ended. Asked to leave it would wait until its tracker has
        heard of that, while the tracker, in this process, waits for it."""
        with socket.create_connection((HOST, self.port), within) as connection:
            connection.sendall(request(xmlrpc.client.dumps((), "session.save").encode()))
            while connection.recv(4096):
                pass
        self.kill()

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

"""A real aria2 that uses only loopback."""

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from mediabus.schemas.status import ItemId, Phase
from mediabus.service.clients.aria2 import Aria2Settings, session
from mediabus.service.clients.metainfo import parse_torrent
from mediabus.service.clients.port import DownloadClient
from tests.support.daemons import HOST, PASSWORD, Daemon


class Aria2(Daemon):
    """aria2c with its RPC, keeping its downloads over a restart as its manual advises."""

    program = "aria2c"
    tells_of_trackers = False
    can_want_nothing = False
    vanished = Phase.DOWNLOADING  # it starts again

    def shown_name(self, name: str, version: str) -> str | None:  # noqa: ARG002
        """It refuses a name with a line break, and percent-encodes other control characters."""
        if "\n" in name:
            return None
        return quote(name) if re.search(r"[\x01-\x1f]", name) else name

    def configure(self) -> None:
        (self.home / "session").touch()
        options = ARIA2_CONF.format(
            host=HOST,
            port=self.port,
            peer_port=self.peer_port,
            secret=PASSWORD,
            downloads=self.downloads,
            session=self.home / "session",
        )
        (self.home / "aria2.conf").write_text(options)

    def command(self) -> list[str]:
        return [self.executable, f"--conf-path={self.home / 'aria2.conf'}"]

    def keeps(self, item: ItemId) -> bool:
        session = (self.home / "session").read_text()
        kept = [
            parse_torrent(path.read_bytes()).infohashes
            for path in self.downloads.glob("*.torrent")
            if str(path) in session
        ]
        return item in session or any(item in hashes for hashes in kept)

    def kept(self, category: str) -> str | None:  # noqa: ARG002 - it knows none
        return None

    async def want(self, client: DownloadClient, item: ItemId, wanted: Sequence[bool]) -> None:
        assert isinstance(client, session.Aria2)
        gid = (await client._must_have(item)).gid
        indices = [str(index) for index, is_wanted in enumerate(wanted, 1) if is_wanted]
        await client._rpc.ask(str, "changeOption", gid, {"select-file": ",".join(indices)})

    def settings(self, *, name: str = "", password: str = PASSWORD) -> Aria2Settings:
        return Aria2Settings(
            name=name or "aria2",
            url=self.url,
            password=password,
            sees_files=True,
            downloads_dir=str(self.downloads),
        )


ARIA2_CONF: Final = """\
async-dns=false
bt-enable-lpd=false
check-integrity=true
dir={downloads}
disable-ipv6=true
enable-dht=false
enable-dht6=false
enable-peer-exchange=false
enable-rpc=true
force-save=true
input-file={session}
interface={host}
listen-port={peer_port}
rpc-listen-all=false
rpc-listen-port={port}
rpc-save-upload-metadata=true
rpc-secret={secret}
save-session={session}
save-session-interval=1
seed-ratio=0
show-console-readout=false
"""

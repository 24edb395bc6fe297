"""A real Deluge, born quiet: see ``quiet_deluged``."""

import json
import pickletools
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mediabus.schemas.status import ItemId
from mediabus.service.clients.deluge import DelugeSettings, session
from mediabus.service.clients.deluge.states import label_of
from mediabus.service.clients.port import DownloadClient
from tests.support.daemons import HOST, USERNAME, Daemon, libtorrent_name

PASSWORD: Final = "open sesame, ünïcode"
"""Deluge keeps ``user:password:level`` on a line: no password has a colon."""

QUIET_DELUGED: Final = Path(__file__).with_name("quiet_deluged.py")


class Deluge(Daemon):
    """deluged 2.x, as Debian has it."""

    program = "deluged"
    scheme = "deluge"
    forgets_connections = True

    def shown_name(self, name: str, version: str) -> str:  # noqa: ARG002
        return libtorrent_name(name)

    def configure(self) -> None:
        configuration = DELUGE_JSON | {"download_location": str(self.downloads)}
        about = {"file": 1, "format": 1}
        (self.home / "core.conf").write_text(json.dumps(about) + json.dumps(configuration))
        (self.home / "auth").write_text(f"{USERNAME}:{PASSWORD}:10\nlocalclient:{PASSWORD}:10\n")

    def command(self) -> list[str]:
        with Path(self.executable).open() as script:
            its_python = script.readline().strip().removeprefix("#!")
        return [
            its_python,
            str(QUIET_DELUGED),
            "--do-not-daemonize",
            f"--config={self.home}",
            f"--ui-interface={HOST}",
            f"--port={self.port}",
            "--loglevel=error",
        ]

    def keeps(self, item: ItemId) -> bool:
        state = self.home / "state" / "torrents.state"
        return state.exists() and any(
            value == item for _, value, _ in pickletools.genops(state.read_bytes())
        )

    def keeps_completion(self, item: ItemId) -> bool:
        # A save that is still going on when it is asked to leave, it forgets.
        resume = self.home / "state" / "torrents.fastresume"
        return resume.exists() and item.encode() in resume.read_bytes()

    def kept(self, category: str) -> str | None:
        return label_of(category)

    async def want(self, client: DownloadClient, item: ItemId, wanted: Sequence[bool]) -> None:
        assert isinstance(client, session.Deluge)
        priorities = {"file_priorities": tuple(4 * is_wanted for is_wanted in wanted)}
        await client._rpc.call("core.set_torrent_options", (item,), priorities)

    def settings(self, *, name: str = "", password: str = PASSWORD) -> DelugeSettings:
        return DelugeSettings(
            name=name or "deluge", url=self.url, username=USERNAME, password=password
        )


DELUGE_JSON: Final[dict[str, object]] = {
    "allow_remote": False,
    "dht": False,
    "enabled_plugins": ["Label"],
    "listen_interface": HOST,
    "lsd": False,
    "natpmp": False,
    "new_release_check": False,
    "outgoing_interface": HOST,
    "send_info": False,
    "upnp": False,
    "utpex": False,
}

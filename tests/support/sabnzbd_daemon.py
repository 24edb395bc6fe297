"""A real SABnzbd with a throw-away profile, where there is one; its only news server is the test's.

Debian has it in contrib, as ``sabnzbdplus``.
"""

from mediabus.schemas.status import ItemId, Phase
from mediabus.service.clients.port import DownloadClient
from mediabus.service.clients.sabnzbd import SabnzbdSettings
from mediabus.service.clients.sabnzbd.session import Sabnzbd as Session
from tests.support.daemons import HOST
from tests.support.usenet_daemon import UsenetDaemon

API_KEY = "0123456789abcdef0123456789abcdef"


class Sabnzbd(UsenetDaemon):
    """sabnzbdplus."""

    program = "sabnzbdplus"
    patience = 60.0
    """A connection of SABnzbd 5.1 can hang until its own timeout of 20 s, before it goes on."""
    refuses_the_same_again = False  # unless it is configured to
    one_article_missing = (Phase.COMPLETED, "missing")

    async def pause_all(self, client: DownloadClient, *, pause: bool) -> None:
        assert isinstance(client, Session)
        await client._rpc.command("pause" if pause else "resume")

    async def unblock(self, client: DownloadClient) -> None:
        """Else it would wait ten minutes."""
        assert isinstance(client, Session)
        await client._rpc.command("status", name="unblock_server", value=HOST)

    def configure(self) -> None:
        configuration = SABNZBD_INI.format(
            host=HOST,
            home=self.home,
            downloads=self.downloads,
            port=self.port,
            news_port=self.news_port,
            api_key=API_KEY,
        )
        (self.home / "sabnzbd.ini").write_text(configuration)

    def command(self) -> list[str]:
        ini = str(self.home / "sabnzbd.ini")
        return [self.executable, "--config-file", ini, "--browser", "0", "--logging", "0"]

    def keeps(self, item: ItemId) -> bool:
        queues = (self.home / "admin").glob("queue*.sab")
        return any(item.encode() in queue.read_bytes() for queue in queues)

    def settings(self, *, name: str = "", password: str = API_KEY) -> SabnzbdSettings:
        return SabnzbdSettings(name=name or "sabnzbd", url=self.url, password=password)


SABNZBD_INI = """\
__version__ = 19
__encoding__ = utf-8
[misc]
admin_dir = {home}/admin
api_key = {api_key}
auto_browser = 0
check_new_rel = 0
complete_dir = {downloads}
deobfuscate_final_filenames = 0
download_dir = {home}/unfinished
host = {host}
inet_exposure = 0
log_dir = {home}/logs
max_art_tries = 2
nzb_key = {api_key}
port = {port}
[servers]
[[{host}]]
connections = 2
displayname = {host}
enable = 1
host = {host}
name = {host}
password = sesame
port = {news_port}
ssl = 0
timeout = 20
username = reader
[categories]
[[*]]
dir = ""
name = *
pp = 3
priority = 0
script = None
[[tv]]
dir = tv
name = tv
pp = ""
priority = -100
script = Default
"""

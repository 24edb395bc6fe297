"""A real NZBGet with a throw-away profile; its only news server is the test's."""

from mediabus.schemas.status import ItemId, Phase
from mediabus.service.clients.nzbget import NzbGetSettings
from mediabus.service.clients.nzbget.session import NzbGet as Session
from mediabus.service.clients.port import DownloadClient
from tests.support.daemons import HOST
from tests.support.usenet_daemon import UsenetDaemon

USERNAME = "librarian"
PASSWORD = "open sesame"
"""ASCII: NZBGet compares the bytes of its configuration."""


class NzbGet(UsenetDaemon):
    """nzbget; its configuration is the one of 13 and later."""

    program = "nzbget"
    one_article_missing = (Phase.FAILED, "1 of 64")

    async def pause_all(self, client: DownloadClient, *, pause: bool) -> None:
        assert isinstance(client, Session)
        await client._rpc.ask(bool, "pausedownload" if pause else "resumedownload")

    async def unblock(self, client: DownloadClient) -> None:
        """It does so by itself."""

    def configure(self) -> None:
        configuration = NZBGET_CONF.format(
            host=HOST,
            home=self.home,
            downloads=self.downloads,
            port=self.port,
            news_port=self.news_port,
            username=USERNAME,
            password=PASSWORD,
        )
        (self.home / "nzbget.conf").write_text(configuration)

    def command(self) -> list[str]:
        return [self.executable, "--server", "--configfile", str(self.home / "nzbget.conf")]

    def keeps(self, item: ItemId) -> bool:  # noqa: ARG002 - the queue is one file
        return (self.home / "queue" / "queue").exists()

    def settings(self, *, name: str = "", password: str = PASSWORD) -> NzbGetSettings:
        return NzbGetSettings(
            name=name or "nzbget", url=self.url, username=USERNAME, password=password
        )


NZBGET_CONF = """\
MainDir={home}
DestDir={downloads}
InterDir={home}/unfinished
NzbDir={home}/nzb
QueueDir={home}/queue
ScriptDir={home}/scripts
TempDir={home}/temporary
LockFile={home}/nzbget.lock
LogFile={home}/nzbget.log
Server1.Active=yes
Server1.Host={host}
Server1.Port={news_port}
Server1.Username=reader
Server1.Password=sesame
Server1.Connections=2
ControlIP={host}
ControlPort={port}
ControlUsername={username}
ControlPassword={password}
OutputMode=log
UpdateCheck=none
ArticleInterval=1
ArticleRetries=1
DiskSpace=0
Unpack=yes
UnrarCmd=unrar
SevenZipCmd=7z
"""

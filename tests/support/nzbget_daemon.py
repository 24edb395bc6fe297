"""A real NZBGet with a throw-away profile; its only news server is the test's."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from schemas.status import ItemId
from service.clients.nzbget import NzbGetSettings
from tests.support.daemons import HOST, Daemon, running
from tests.support.ports import free_port

USERNAME = "librarian"
PASSWORD = "open sesame"
"""ASCII: NZBGet compares the bytes of its configuration."""


class NzbGet(Daemon):
    """nzbget; its configuration is the one of 13 and later. ``news_port`` is where it looks for
    its news server."""

    program = "nzbget"

    def __init__(self, home: Path) -> None:
        self.news_port = free_port()
        super().__init__(home)

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


@contextlib.contextmanager
def nzbget() -> Iterator[NzbGet]:
    """A running NZBGet, ended on leaving, its profile and downloads removed."""
    with tempfile.TemporaryDirectory(prefix="mediabus-nzbget-") as home:
        yield from running(NzbGet(Path(home)))


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

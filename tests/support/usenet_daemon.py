"""What the daemons of usenet have in common, and what they make of missing articles."""

import abc
from pathlib import Path

from mediabus.schemas.status import Phase
from mediabus.service.clients.port import DownloadClient
from tests.support.daemons import Daemon
from tests.support.ports import free_port


class UsenetDaemon(Daemon):
    """``news_port`` is where it looks for its news server."""

    refuses_the_same_again = True
    one_article_missing: tuple[Phase, str]
    """What a download without repair data ends as then, and the words about it."""

    def __init__(self, home: Path) -> None:
        self.news_port = free_port()
        super().__init__(home)

    @abc.abstractmethod
    async def pause_all(self, client: DownloadClient, *, pause: bool) -> None:
        """Pause the whole client, or resume it, as a person would in its page."""

    @abc.abstractmethod
    async def unblock(self, client: DownloadClient) -> None:
        """Let it ask again a news server that refused it, for the next test."""

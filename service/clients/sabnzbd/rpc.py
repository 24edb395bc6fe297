"""Call SABnzbd's HTTP API, decode its answers, and map its errors."""

from typing import NoReturn, TypeVar

import aiohttp
import msgspec
from yarl import URL

from mediabus.service.clients.http import Answer, Http, LoginBackoff, base_url
from mediabus.service.clients.port import ClientRefused, ClientUnavailable, NzbFile
from mediabus.service.clients.sabnzbd.states import History, Queue

T = TypeVar("T")


def api_url(text: str) -> URL:
    """Return the URL of the API: ``/api`` is appended unless the URL ends with it."""
    url = base_url(text)
    return url if url.path.endswith("/api") else url / "api"


class QueueReply(msgspec.Struct, frozen=True):
    """The answer to mode=queue."""

    queue: Queue


class HistoryReply(msgspec.Struct, frozen=True):
    """The answer to mode=history. False means that nothing changed."""

    history: History | bool


class Duplicates(msgspec.Struct, frozen=True):
    """How SABnzbd handles duplicates; 1 is discard.

    ``no_dupes`` is for the same NZB, ``no_smart_dupes`` for the same movie or episode.
    """

    no_dupes: int = 0
    no_smart_dupes: int = 0


class Config(msgspec.Struct, frozen=True):
    """The used part of the configuration."""

    misc: Duplicates = Duplicates()


class ConfigReply(msgspec.Struct, frozen=True):
    """The answer to mode=get_config."""

    config: Config = Config()


class Version(msgspec.Struct, frozen=True):
    """The answer to mode=version."""

    version: str


class Done(msgspec.Struct, frozen=True):
    """The answer to a command."""

    status: bool = False
    error: str | None = None
    nzo_ids: list[str] = []


class Warned(msgspec.Struct, frozen=True):
    """A warning or an error of SABnzbd."""

    text: str = ""
    time: float = 0.0
    type: str = ""
    origin: str = ""  # the file of SABnzbd's source, and its line


class Warnings(msgspec.Struct, frozen=True):
    """The answer to mode=warnings, oldest first."""

    warnings: list[Warned] = []


class NewsServer(msgspec.Struct, frozen=True):
    """The problems of a news server: temporary, or until a user fixes it."""

    serverwarning: str = ""
    servererror: str = ""


class State(msgspec.Struct, frozen=True):
    """The used part of the answer to mode=status."""

    servers: list[NewsServer] = []


class StateReply(msgspec.Struct, frozen=True):
    """The answer to mode=status."""

    status: State = State()


class Rpc:
    """Calls over HTTP. ``key`` is the API key."""

    def __init__(self, http: Http, key: str) -> None:
        self._http = http
        self._key = key
        self._backoff = LoginBackoff()

    async def command(self, mode: str, *, nzb: NzbFile | None = None, **params: str) -> Done:
        """Send a command. Raises ClientRefused if SABnzbd reports an error."""
        done = await self.ask(Done, mode, nzb=nzb, **params)
        if done.error:
            raise ClientRefused(f"SABnzbd refused: {done.error!r}")
        return done

    async def ask(
        self, kind: type[T], mode: str, *, nzb: NzbFile | None = None, **params: str
    ) -> T:
        """Send a request. Return the answer as a ``kind``."""
        self._backoff.check()
        params = {"mode": mode, "output": "json", "apikey": self._key, **params}
        form = _form(params, nzb)
        answer = await self._http.call("POST", "", repeatable=nzb is None, data=form)
        self._check_login(answer)
        return self._http.decode(answer, kind, strict=False, tolerant=True)

    async def ask_aside(self, default: T, mode: str, **params: str) -> T:
        """Send a request whose answer only explains something.

        Returns an answer of the type of ``default``, or ``default`` if the answer is unusable, so
        that such an error does not hide the downloads.
        """
        try:
            return await self.ask(type(default), mode, nzb=None, **params)
        except ClientUnavailable as error:
            if error.reason != "protocol":
                raise
            return default

    def raise_protocol_error(self, what: str) -> NoReturn:
        """Raise ClientUnavailable for an answer that is not SABnzbd's."""
        self._http.raise_protocol_error(what)

    def _check_login(self, answer: Answer) -> None:
        # Before 2.3, a wrong key gets status 200. A host name or address can be refused, too.
        if answer.status in (401, 403) or answer.body.startswith(b'{"status":false,"error":"API K'):
            raise self._backoff.refused(
                ClientUnavailable("authentication", f"SABnzbd refused the request: {answer.text}")
            )
        if answer.status != 200:
            self._http.raise_protocol_error(f"HTTP {answer.status} {answer.text}")
        self._backoff.accepted()


def _form(params: dict[str, str], nzb: NzbFile | None) -> aiohttp.FormData:
    form = aiohttp.FormData()
    for name, value in params.items():
        form.add_field(name, value)
    if nzb is not None:
        form.add_field("name", nzb.content, filename="a.nzb", content_type="application/x-nzb")
    return form

"""Calls to SABnzbd's HTTP API, their answers, and what is wrong with them."""

from typing import NoReturn, TypeVar

import aiohttp
import msgspec
from yarl import URL

from service.clients.http import Answer, Http, Patience, base_url
from service.clients.port import ClientRefused, ClientUnavailable, NzbFile
from service.clients.sabnzbd.states import History, Queue

T = TypeVar("T")


def api_url(text: str) -> URL:
    """Where the API is: below the address, unless that names it."""
    url = base_url(text)
    return url if url.path.endswith("/api") else url / "api"


class QueueReply(msgspec.Struct, frozen=True):
    """The answer to mode=queue."""

    queue: Queue


class HistoryReply(msgspec.Struct, frozen=True):
    """The answer to mode=history; False says that nothing changed."""

    history: History | bool


class Version(msgspec.Struct, frozen=True):
    """The answer to mode=version."""

    version: str


class Done(msgspec.Struct, frozen=True):
    """The answer to a command."""

    status: bool = False
    error: str = ""
    nzo_ids: list[str] = []


class Warned(msgspec.Struct, frozen=True):
    """A warning or an error of SABnzbd's own."""

    text: str
    time: int = 0


class Warnings(msgspec.Struct, frozen=True):
    """The answer to mode=warnings, the newest last."""

    warnings: list[Warned]


class NewsServer(msgspec.Struct, frozen=True):
    """What is wrong with a news server: for now, or until somebody does something."""

    serverwarning: str = ""
    servererror: str = ""


class State(msgspec.Struct, frozen=True):
    """Of mode=status, what matters here."""

    servers: list[NewsServer] = []


class StateReply(msgspec.Struct, frozen=True):
    """The answer to mode=status."""

    status: State


class Rpc:
    """Calls over HTTP; ``key`` is the API key."""

    def __init__(self, http: Http, key: str) -> None:
        self._http = http
        self._key = key
        self._patience = Patience()

    async def command(self, mode: str, *, nzb: NzbFile | None = None, **params: str) -> Done:
        """One call that changes something. ClientRefused if SABnzbd says no."""
        done = await self.ask(Done, mode, nzb=nzb, **params)
        if done.error:
            raise ClientRefused(f"SABnzbd says {done.error!r}")
        return done

    async def ask(
        self, kind: type[T], mode: str, *, nzb: NzbFile | None = None, **params: str
    ) -> T:
        """The answer to one call, as a ``kind``."""
        self._patience.check()
        params = {"mode": mode, "output": "json", "apikey": self._key, **params}
        form = _form(params, nzb)
        answer = await self._http.call("POST", "", repeatable=nzb is None, data=form)
        self._must_be_let_in(answer)
        try:
            return msgspec.json.decode(answer.body, type=kind, strict=False)
        except msgspec.DecodeError as error:
            self._http.misunderstood(f"{error} in {answer.words[:80]!r}", error)

    def misunderstood(self, what: str) -> NoReturn:
        """Raises ClientUnavailable: this is no answer of SABnzbd's."""
        self._http.misunderstood(what)

    def _must_be_let_in(self, answer: Answer) -> None:
        # Before 2.3 a wrong key was told with 200. Also the host's name or our address may be why.
        if answer.status in (401, 403) or answer.body.startswith(b'{"status":false,"error":"API K'):
            raise self._patience.refused(
                ClientUnavailable("authentication", f"SABnzbd refused us: {answer.words}")
            )
        if answer.status != 200:
            self._http.misunderstood(f"HTTP {answer.status} {answer.words}")
        self._patience.accepted()


def _form(params: dict[str, str], nzb: NzbFile | None) -> aiohttp.FormData:
    form = aiohttp.FormData()
    for name, value in params.items():
        form.add_field(name, value)
    if nzb is not None:
        form.add_field("name", nzb.content, filename="a.nzb", content_type="application/x-nzb")
    return form

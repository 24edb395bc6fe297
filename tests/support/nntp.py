"""A news server on loopback and what is posted there: real articles in yEnc, and their NZB.

It speaks as much of RFC 3977 and RFC 4643 as usenet downloaders use, and does on demand what news
servers do to them: lose articles, refuse the password, fall silent.
"""

import asyncio
import contextlib
import dataclasses
import random
import uuid
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Final
from xml.sax.saxutils import escape, quoteattr

HOST: Final = "127.0.0.1"
GROUP: Final = "alt.binaries.test"
ARTICLE: Final = 64 * 1024
"""Payload bytes of an article: small, so that a small post has many."""

LINE: Final = 128
SHIFTED: Final = bytes((byte + 42) % 256 for byte in range(256))
ESCAPED: Final = {byte: bytes((ord("="), byte + 64)) for byte in b"\0\n\r="}
"""yEnc draft 1.3: every byte moves by 42, and what must not be on a line moves by 64 more."""


def yenc_lines(payload: bytes) -> list[bytes]:
    """The payload in yEnc, ``LINE`` bytes a line and one more where an escape would be torn."""
    text = payload.translate(SHIFTED).replace(b"=", ESCAPED[ord("=")])
    for byte in b"\0\n\r":
        text = text.replace(bytes([byte]), ESCAPED[byte])
    lines, at = [], 0
    while at < len(text):
        end = at + LINE
        end += text[end - 1 : end] == b"="
        lines.append(text[at:end])
        at = end
    return lines


def article(name: str, payload: bytes, begin: int, number: int, total: int) -> bytes:
    """The lines of one part of a file's article, from its headers to its end, without dots."""
    part = payload[begin : begin + ARTICLE]
    head = [
        b"From: poster <poster@localhost>",
        b"Newsgroups: " + GROUP.encode(),
        b"Subject: " + subject(name, number, total).encode(),
        b"",
        f"=ybegin part={number} total={total} line={LINE} size={len(payload)} name={name}".encode(),
        f"=ypart begin={begin + 1} end={begin + len(part)}".encode(),
    ]
    end = f"=yend size={len(part)} part={number} pcrc32={zlib.crc32(part):08x}"
    return b"\r\n".join([*head, *yenc_lines(part), end.encode()])


def subject(name: str, number: int, total: int) -> str:
    return f'"{name}" yEnc ({number}/{total})'


@dataclasses.dataclass(frozen=True)
class File:
    """A posted file and the message ids of its parts, in order."""

    name: str
    payload: bytes = dataclasses.field(repr=False)
    articles: tuple[str, ...] = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class Post:
    """What an indexer would list: some files together, and the NZB that names them."""

    name: str
    files: tuple[File, ...]
    nzb: bytes = dataclasses.field(repr=False)

    @property
    def size(self) -> int:
        return sum(len(file.payload) for file in self.files)

    @property
    def articles(self) -> tuple[str, ...]:
        return tuple(name for file in self.files for name in file.articles)


def make_nzb(files: tuple[File, ...]) -> bytes:
    """The NZB (newzbin DTD 1.1) of these files."""
    listed = "\n".join(_nzb_file(file) for file in files)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<!DOCTYPE nzb PUBLIC "-//newzBin//DTD NZB 1.1//EN"'
        ' "http://www.newzbin.com/DTD/nzb/nzb-1.1.dtd">\n'
        f'<nzb xmlns="http://www.newzbin.com/DTD/2003/nzb">\n{listed}\n</nzb>\n'
    ).encode()


def _nzb_file(file: File) -> str:
    shown = quoteattr(subject(file.name, 1, len(file.articles)))
    segments = "\n".join(
        f'<segment bytes="{ARTICLE}" number="{number}">{escape(message)}</segment>'
        for number, message in enumerate(file.articles, 1)
    )
    return (
        f'<file poster="poster@localhost" date="1700000000" subject={shown}>'
        f"<groups><group>{GROUP}</group></groups><segments>\n{segments}\n</segments></file>"
    )


class NewsServer:
    """The posted articles, and how the server serves them.

    The switches ``username``, ``password``, ``missing`` (message ids) and ``hold`` may change
    at any time.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.username = ""
        self.password = ""
        self.missing: set[str] = set()
        self.served = 0
        self.refused = 0
        self._articles: dict[str, bytes] = {}
        self._may_serve = 0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._listener: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen, with all that was posted so far."""
        self._listener = await asyncio.start_server(self._greet, HOST, self.port)

    async def stop(self) -> None:
        """Be away: cut every connection and listen no more."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        listener.close()
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)
        await listener.wait_closed()

    def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.create_task(_talk(self, reader, writer))
        self._talks.add(talk)
        talk.add_done_callback(self._talks.discard)

    def post(
        self, name: str, *, size: int = 1 << 20, files: dict[str, bytes] | None = None
    ) -> Post:
        """Post ``files``, or one of ``size`` random bytes called like the post."""
        contents = files if files is not None else {name: random.randbytes(size)}
        posted = tuple(self._post_file(*named) for named in contents.items())
        return Post(name, posted, make_nzb(posted))

    def _post_file(self, name: str, payload: bytes) -> File:
        begins = range(0, len(payload), ARTICLE)
        messages = []
        for number, begin in enumerate(begins, 1):
            message = f"{uuid.uuid4().hex}.{number}@localhost"
            self._articles[message] = article(name, payload, begin, number, len(begins))
            messages.append(message)
        return File(name, payload, tuple(messages))

    def hold(self, *, after: int = 0) -> None:
        """Serve ``after`` more articles and then fall silent, with the connections open."""
        self._may_serve = after
        self._flowing.clear()

    def release(self) -> None:
        """Serve everything again."""
        self._flowing.set()

    async def may_serve(self) -> None:
        """Waits for its turn to serve an article."""
        if self._flowing.is_set():
            return
        if self._may_serve > 0:
            self._may_serve -= 1
            return
        await self._flowing.wait()

    def find(self, message: str) -> bytes | None:
        """The article of a message id in angle brackets."""
        name = message.strip("<>")
        return None if name in self.missing else self._articles.get(name)


class Conversation:
    """One connection, from the greeting to its end."""

    def __init__(
        self, server: NewsServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._username = ""
        self._let_in = not server.password
        self._commands: Final[dict[str, Callable[[list[str]], bytes]]] = {
            "CAPABILITIES": lambda _: block(b"101 these", b"VERSION 2\r\nREADER\r\nAUTHINFO USER"),
            "MODE": lambda _: b"200 reading only\r\n",
            "DATE": lambda _: b"111 20260101000000\r\n",
            "GROUP": lambda words: f"211 1 1 1 {words[-1]}\r\n".encode(),
            "AUTHINFO": self._authinfo,
        }

    async def hold(self) -> None:
        """Answers until the other side leaves."""
        self._writer.write(b"200 at your service\r\n")
        while line := await self._reader.readline():
            words = line.decode(errors="replace").split() or [""]
            verb = words[0].upper()
            if verb == "QUIT":
                self._writer.write(b"205 goodbye\r\n")
                return
            self._writer.write(await self._answer(verb, words[1:] or [""]))
            await self._writer.drain()

    async def _answer(self, verb: str, words: list[str]) -> bytes:
        if verb in self._commands:
            return self._commands[verb](words)
        if not self._let_in:
            return b"480 who are you\r\n"
        if verb in ("ARTICLE", "BODY", "HEAD", "STAT"):
            await self._server.may_serve()
            return self._article(verb, words[0])
        return b"500 what\r\n"

    def _article(self, verb: str, message: str) -> bytes:
        found = self._server.find(message)
        if found is None:
            self._server.refused += 1
            return b"430 no such article\r\n"
        self._server.served += 1
        head, _, body = found.partition(b"\r\n\r\n")
        match verb:
            case "ARTICLE":
                return block(f"220 0 {message}".encode(), found)
            case "BODY":
                return block(f"222 0 {message}".encode(), body)
            case "HEAD":
                return block(f"221 0 {message}".encode(), head)
            case _:
                return f"223 0 {message}\r\n".encode()

    def _authinfo(self, words: list[str]) -> bytes:
        what, _, value = " ".join(words).partition(" ")
        if what.upper() == "USER":
            self._username = value
            return b"381 and the password\r\n"
        wanted = (self._server.username, self._server.password)
        self._let_in = not self._server.password or (self._username, value) == wanted
        return b"281 welcome\r\n" if self._let_in else b"481 wrong\r\n"


def block(status: bytes, lines: bytes) -> bytes:
    """An answer of many lines: a line that begins with a dot gets another, and a dot ends it."""
    stuffed = (b"\r\n" + lines).replace(b"\r\n.", b"\r\n..")
    return status + stuffed + b"\r\n.\r\n"


async def _talk(
    server: NewsServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        with contextlib.suppress(ConnectionError):
            await Conversation(server, reader, writer).hold()
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def news_server(port: int) -> AsyncIterator[NewsServer]:
    """A news server without articles, running on this port of 127.0.0.1."""
    server = NewsServer(port)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()

"""A server with hostile answers: endless, deep, huge, slow."""

import contextlib
import gzip
import json
import socket
import ssl
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from mediabus.secure import certificates
from tests.support.daemons import HOST

Say = Callable[[socket.socket], None]
"""Answers a request on a connection."""

BLOCK: Final = b"x" * 65536
MEGABYTE: Final = 1 << 20
DEEP: Final = 200_000
OK: Final = b"HTTP/1.1 200 OK\r\nSet-Cookie: SID=1\r\n"


class Hostile:
    """Run the server. Each connection has a thread, which ends with the connection or the server.

    ``say`` may be changed while it runs.
    """

    def __init__(self, say: Say, tls: ssl.SSLContext | None = None) -> None:
        self.say = say
        self.requests = 0
        self._tls = tls
        self._listener = socket.create_server((HOST, 0))
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.port = self._listener.getsockname()[1]

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.add(connection)
            thread = threading.Thread(target=self._answer, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _answer(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.callback(self._open.discard, connection)
            stack.enter_context(connection)
            if self._tls:
                secured = stack.enter_context(self._tls.wrap_socket(connection, server_side=True))
                self._open.add(secured)
                stack.callback(self._open.discard, secured)
                connection = secured
            while connection.recv(MEGABYTE):
                self.requests += 1
                self.say(connection)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)


@contextlib.contextmanager
def hostile(say: Say, tls: ssl.SSLContext | None = None) -> Iterator[Hostile]:
    """The server, while it serves."""
    server = Hostile(say, tls)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join(10)


def own_certificate(directory: Path) -> ssl.SSLContext:
    """The certificate of a Deluge, which is not verified."""
    authority = certificates.authority()
    certificate, key = certificates.server([HOST], *authority)
    (directory / "certificate").write_text(certificate)
    (directory / "key").write_text(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "certificate", directory / "key")
    return context


def body(content: bytes, headers: bytes = b"") -> Say:
    """One whole answer of HTTP."""

    def say(connection: socket.socket) -> None:
        head = b"%bContent-Length: %d\r\n%b\r\n" % (OK, len(content), headers)
        connection.sendall(head + content)

    return say


def endless(start: bytes, block: bytes) -> Say:
    """A start, then a part that repeats without end."""

    def say(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(block)

    return say


def slow(connection: socket.socket) -> None:
    """A byte now and then."""
    connection.sendall(OK + b"Content-Length: 1000000\r\n\r\n")
    pause = threading.Event()
    while True:
        connection.sendall(b"[")
        pause.wait(0.05)


def hangs_up(connection: socket.socket) -> None:
    """Nothing at all."""
    connection.shutdown(socket.SHUT_RDWR)


def bomb(size: int, wbits: int = 31) -> bytes:
    """So many zeros, as gzip has them, or zlib with ``wbits`` 15; it stops before the end.

    After a full flush the same bytes mean the same zeros again, so that a gigabyte takes no time.
    """
    compressing = zlib.compressobj(9, wbits=wbits)
    zeros = bytes(MEGABYTE)
    start = compressing.compress(zeros) + compressing.flush(zlib.Z_FULL_FLUSH)
    again = compressing.compress(zeros) + compressing.flush(zlib.Z_FULL_FLUSH)
    return start + again * (size // MEGABYTE - 1)


def scgi(content: bytes) -> Say:
    """One whole answer of SCGI."""

    def say(connection: socket.socket) -> None:
        connection.sendall(b"Status: 200 OK\r\nContent-Type: text/xml\r\n\r\n" + content)
        connection.shutdown(socket.SHUT_RDWR)

    return say


def xml(value: bytes) -> bytes:
    """An answer of XML-RPC."""
    return (
        b"<?xml version='1.0'?><methodResponse><params><param><value>%b</value></param></params>"
        b"</methodResponse>" % value
    )


def deluge(content: bytes) -> Say:
    """One message of Deluge's."""
    return packed_deluge(zlib.compress(content, 1))


def packed_deluge(packed: bytes) -> Say:
    """One message of Deluge's, compressed already."""

    def say(connection: socket.socket) -> None:
        connection.sendall(struct.pack("!BI", 1, len(packed)) + packed)

    return say


MANY: Final = 4_000_000
DEEP_XML: Final = b"<array><data><value>" * DEEP + b"<i4>1</i4>" + b"</value></data></array>" * DEEP
ENTITIES: Final = (
    b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'>"
    + b"".join(b"<!ENTITY %c '%b'>" % (99 + n, b"&%c;" % (98 + n or 97) * 10) for n in range(9))
    + b"]><methodResponse/>"
)
LATER: Final = b'{"result":'

OVER_HTTP: Final[dict[str, Say]] = {
    "endless body": endless(OK + b"Content-Length: 999999999999\r\n\r\n[", BLOCK),
    "endless chunks": endless(
        OK + b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n%b\r\n" % (len(BLOCK), BLOCK)
    ),
    "endless header": endless(b"HTTP/1.1 200 OK\r\nX: ", BLOCK),
    "endless headers": endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 10_000),
    "endless trailers": endless(
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", b"X: y\r\n" * 10_000
    ),
    "endless continue": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000),
    "endless extension of a chunk": endless(OK + b"Transfer-Encoding: chunked\r\n\r\n2;", BLOCK),
    "gzip bomb": body(bomb(1 << 30), b"Content-Encoding: gzip\r\n"),
    "gzip bomb of gzip": body(
        gzip.compress(bomb(1 << 30), mtime=0), b"Content-Encoding: gzip, gzip\r\n"
    ),
    "no gzip": body(b"{}", b"Content-Encoding: gzip\r\n"),
    "deep lists": body(b"[" * DEEP),
    "deep lists later": body(LATER + b"[" * DEEP + b"]" * DEEP + b"}"),
    "deep objects": body(b'{"a":' * DEEP),
    "many values": body(b'{"result":[' + b"{}," * MANY + b"{}]}"),
    "a huge number": body(b'{"result":' + b"9" * MEGABYTE + b"}"),
    "a huge text": body(b'{"result":"' + b"x" * 40 * MEGABYTE + b'"}'),
    "a huge fault": body(json.dumps({"error": {"message": "x" * MEGABYTE, "code": 1}}).encode()),
    "no JSON": body(b"\xff\xfe" * 1000),
    "null": body(b"null"),
    "nothing": body(b""),
    "slow": slow,
    "hangs up": hangs_up,
    "no HTTP": endless(b"\0" * 100, BLOCK),
}
OVER_SCGI: Final[dict[str, Say]] = {
    "endless": endless(b"Status: 200 OK\r\n\r\n", BLOCK),
    "endless head": endless(b"", BLOCK),
    "deep": scgi(xml(DEEP_XML)),
    "many values": scgi(xml(b"<array><data>" + b"<value/>" * MANY + b"</data></array>")),
    "entities": scgi(ENTITIES),
    "a huge number": scgi(xml(b"<i8>" + b"9" * MEGABYTE + b"</i8>")),
    "a strange tag": scgi(xml(b"<nil/><struct><member/></struct>")),
    "a huge text": scgi(xml(b"<string>" + b"x" * 20 * MEGABYTE + b"</string>")),
    "nothing": scgi(b""),
    "hangs up": hangs_up,
}
EVENT: Final = zlib.compress(b"\xc3\x03\x81x\xc0")
OVER_DELUGE: Final[dict[str, Say]] = {
    "a bomb": packed_deluge(bomb(1 << 30, wbits=15)),
    "endless": endless(struct.pack("!BI", 1, (1 << 32) - 1), BLOCK),
    "endless message": endless(struct.pack("!BI", 1, 30 * MEGABYTE), BLOCK),
    "deep": deluge(b"\xc1" * DEEP + b"\0"),
    "many values": deluge(b"\x3b" + b"\xc0" * MANY + b"\x7f"),
    "a huge text": deluge(b"%d:" % (20 * MEGABYTE) + b"x" * 20 * MEGABYTE),
    "events without end": endless(b"", 999 * (struct.pack("!BI", 1, len(EVENT)) + EVENT)),
    "no zlib": endless(b"", struct.pack("!BI", 1, 4) + b"abcd"),
    "hangs up": hangs_up,
}

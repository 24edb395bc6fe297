"""nats-py's client, without what ends it silently or leaves it waiting."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

from nats.aio.client import PING_PROTO, Client
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError
from nats.errors import Error as NatsError
from nats.protocol import parser
from nats.protocol.command import hpub_cmd

from service.runtime.nats_headers import RawHeaders, as_bytes, headers_of

Taker = Callable[[Msg], None]

JETSTREAM_ACK: Final = b"$JS.ACK."
"""How the reply subject of what a consumer is delivered begins."""

EVENT_COMMAND: Final = b"HPUB events."
"""How an event with its headers, as all of ours have, is sent."""

FORBIDDEN_PUBLISH: Final = re.compile(r'permissions violation for publish to "([^"]*)"')
"""In the words of the server, which nats-py makes lower case."""

# What stands between the parts of a line is a blank or a tab. nats-py takes any white space for it,
# of which a subject may hold a form feed, and then loses its place.
_PART: Final = rb"[ \t]+([^ \t\r\n]+)"
parser.MSG_RE = re.compile(rb"\AMSG%b%b(%b)?[ \t]+(\d+)\r\n" % (_PART, _PART, _PART))
parser.HMSG_RE = re.compile(rb"\AHMSG%b%b(%b)?[ \t]+(\d+)[ \t]+(\d+)\r\n" % (_PART, _PART, _PART))


class NotAllowed(NatsError):
    """NATS knows who we are, and does not let us do this."""


class NatsClient(Client):
    """nats-py's client, less some ways to its end: for good on most of what a server calls an
    error, silently on a subject that is not UTF-8 or on headers that are none. What the server
    forbids fails at once, and not by its timeout; where TLS is needed, a server without it is no
    server. And it reads headers at a third of the cost, and writes them at two thirds."""

    def __init__(self, *, needs_tls: bool) -> None:
        super().__init__()
        self._needs_tls = needs_tls
        self._asked: WeakKeyDictionary[asyncio.Future[Msg], str] = WeakKeyDictionary()
        self._takers: dict[int, Taker] = {}

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and self._needs_tls and not info.get("tls_required"):
            raise NatsError("nats: the server does not speak TLS, which nats.tls_ca asks for")
        await super()._process_info(info, initial_connection)

    async def publish(
        self,
        subject: str,
        payload: bytes = b"",
        reply: str = "",
        headers: dict[str, Any] | None = None,
    ) -> None:
        future = self._resp_map.get(reply.rpartition(".")[2]) if reply else None
        if future is not None:
            self._asked[future] = subject
        await super().publish(subject, payload, reply, headers)

    async def _send_publish(
        self,
        subject: str,
        reply: str,
        payload: bytes,
        payload_size: int,
        headers: dict[str, str] | None,
    ) -> None:
        if not headers:
            await super()._send_publish(subject, reply, payload, payload_size, headers)
            return
        command = hpub_cmd(subject, reply, as_bytes(headers), payload)
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += payload_size
        await self._send_command(command)
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    @contextlib.asynccontextmanager
    async def handing(self, subject: str, taker: Taker) -> AsyncIterator[None]:
        """A subscription whose messages are handed over as they are read, past the queue and the
        task that nats-py has between: ``taker`` must be quick, and must not raise."""
        subscription = await self.subscribe(subject, pending_msgs_limit=-1, pending_bytes_limit=-1)
        sid = subscription._id  # noqa: SLF001
        self._takers[sid] = taker
        try:
            yield
        finally:
            del self._takers[sid]
            with contextlib.suppress(NatsError):  # closed already
                await subscription.unsubscribe()

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        taker = self._takers.get(sid)
        if taker is None:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(data)
        if reply.startswith(JETSTREAM_ACK) and headers:
            known: Any = RawHeaders(headers)
        else:
            known = await self._process_headers(headers)
        taker(self._build_message(sid, subject, reply, data, known))

    async def acknowledge(self, messages: Sequence[Msg]) -> None:
        """Acknowledges each of the messages, in one write. Raises ConnectionClosedError."""
        if self.is_closed:
            raise ConnectionClosedError
        acks = [f"PUB {message.reply} 0\r\n\r\n" for message in messages]
        await self._send_command("".join(acks).encode())
        self.stats["out_msgs"] += len(acks)
        for message in messages:
            message._ackd = True  # noqa: SLF001 - as its own ``ack`` does
        await self._flush_pending()

    async def _flush_pending(self, force_flush: bool = False) -> Any:  # noqa: ANN401 - nats-py's
        task = asyncio.current_task()
        cancelled = task.cancelling() if task else 0
        try:
            flushed = await super()._flush_pending(force_flush)
        except (OSError, RuntimeError) as error:  # uvloop's, of a connection that has just ended
            await self._process_op_err(error)
            flushed = await super()._flush_pending(force_flush)  # which waits for the next one
        if task and task.cancelling() > cancelled:  # nats-py keeps it to itself
            raise asyncio.CancelledError
        return flushed

    async def _attempt_reconnect(self) -> None:
        """Without the events that the lost connection did not send any more: each is published
        again by whoever waits for it, once it is known what the server has by then."""
        self._pending = [one for one in self._pending if not one.startswith(EVENT_COMMAND)]
        self._pending_data_size = sum(map(len, self._pending))
        await super()._attempt_reconnect()

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        """Behind what is still to be sent. nats-py sends it before that, so what ``flush`` waited
        for, such as a subscription, need not be at the server yet."""
        self._pongs.append(future or asyncio.Future())
        self._pending.append(PING_PROTO)
        self._pending_data_size += len(PING_PROTO)
        await self._flush_pending()

    async def _process_pong(self) -> None:
        if self._pongs and self._pongs[0].done():  # nats-py hangs up where nobody waits any more
            self._pongs[0] = asyncio.Future()
        await super()._process_pong()

    def hang_up(self) -> None:
        """Ends the connection to a server that takes nothing, and would never let it be closed."""
        writer = getattr(self._transport, "_io_writer", None)
        if writer:
            writer.transport.abort()

    async def _process_err(self, err_msg: str) -> None:
        if "permissions violation" in err_msg:
            await super()._process_err(err_msg)
            self._refuse(err_msg)
        else:  # the server hangs up, which is no reason to stay away
            await self._process_op_err(NatsError(f"nats: {err_msg}"))

    def _refuse(self, words: str) -> None:
        """Fails the requests to the subject that the server named."""
        found = FORBIDDEN_PUBLISH.search(words)
        for future, subject in list(self._asked.items()):
            if found and subject.lower() == found[1] and not future.done():
                future.set_exception(NotAllowed(f"NATS does not let this user ask {subject}"))

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        try:
            parsed: dict[str, str] | None = await super()._process_headers(headers)
        except (UnicodeDecodeError, IndexError):
            return None
        return parsed

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Msg:
        if not subject.isascii():
            subject = subject.decode(errors="backslashreplace").encode()
        message: Msg = super()._build_message(sid, subject, reply, data, headers)
        return message

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        return headers_of(raw)

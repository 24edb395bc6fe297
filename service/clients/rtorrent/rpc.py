"""Call rTorrent's XML-RPC and translate its faults."""

import re
import reprlib
import xmlrpc.client
from typing import Any, Final, NoReturn

from mediabus.schemas.status import ItemId
from mediabus.service.clients.port import ClientRefused, ClientUnavailable
from mediabus.service.clients.scgi import Transport
from mediabus.service.clients.xml_rpc import answer_of

NO_SUCH: Final = re.compile(r"(?=.*\binfo-?hash\b)(?=.*\bnot (find|found)\b)", re.IGNORECASE)
"""The fault for an unknown torrent: "Could not find info-hash", "info-hash not found". Its number
is -501 in 0.9, -500 in 0.16.10 and -503 in 0.16.17, and these numbers mean other faults too."""


class Rpc:
    """Calls to the rTorrent at ``url``."""

    def __init__(self, transport: Transport, url: str) -> None:
        self._transport = transport
        self._url = url

    async def ask_of(self, item: ItemId, method: str) -> Any:  # noqa: ANN401 - as XML-RPC has it
        """Return the result of a call about one torrent.

        Raises:
            NoSuchTorrent: rTorrent does not have the torrent. If the text of a fault is unknown,
                the list of its torrents decides.
        """
        try:
            return await self.call(method, item.upper())
        except NoSuchTorrent:
            raise
        except ClientRefused as error:
            if item.upper() not in await self.call("download_list"):
                raise NoSuchTorrent(str(error)) from error
        return await self.call(method, item.upper())  # it may have been added since the first call

    async def together(self, *calls: tuple[str, ...]) -> list[Any]:
        """Return the results of several calls in one request; None for a call that failed."""
        calls_sent = [{"methodName": method, "params": params} for method, *params in calls]
        answers = await self.call("system.multicall", calls_sent)
        if not isinstance(answers, list) or len(answers) != len(calls):
            self.raise_protocol_error(reprlib.repr(answers))
        return [result[0] if isinstance(result, list) and result else None for result in answers]

    async def call(self, method: str, *params: Any, once: bool = False) -> Any:  # noqa: ANN401
        """Return the result of one call. With ``once``, it is never sent twice."""
        body = xmlrpc.client.dumps(params, method).encode()
        answer = await self._transport.post(body, repeatable=not once)
        try:
            result = await answer_of(_printable(answer))
        except xmlrpc.client.Fault as fault:
            message = str(fault.faultString)
            if NO_SUCH.match(message):
                raise NoSuchTorrent(message) from fault
            raise ClientRefused(f"rTorrent refused: {message!r}") from fault
        except ValueError as error:
            self.raise_protocol_error(f"{error} in {answer[:80]!r}", error)
        return result

    def raise_protocol_error(self, what: str, cause: Exception | None = None) -> NoReturn:
        raise ClientUnavailable(
            "protocol",
            f"{self._url} does not answer like rTorrent: {what}. "
            "Check that `url` is the address of rTorrent.",
        ) from cause


class NoSuchTorrent(ClientRefused):
    """rTorrent does not have the torrent."""


def _printable(answer: bytes) -> str:
    """Decode the XML, replacing bytes in names that are not valid UTF-8 or XML."""
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", "", answer.decode(errors="replace"))

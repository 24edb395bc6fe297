"""Parse XML-RPC answers within limits; document types, and so entities, are rejected."""

import asyncio
import xmlrpc.client
from typing import Any, Final, NoReturn
from xml.parsers import expat

from mediabus.runtime.error_text import error_text
from mediabus.service.clients.limits import (
    MAX_DEPTH,
    MAX_PARSED_BYTES,
    MAX_XML_VALUES,
    THREAD_FROM_BYTES,
    LimitExceeded,
)

VALUE: Final = "value"


class _Limited(xmlrpc.client.Unmarshaller):
    """An unmarshaller that limits the number and depth of values."""

    def __init__(self) -> None:
        super().__init__(use_builtin_types=True)
        self._encoding = ""  # expat returns text that needs no decoding
        self._depth = 0
        self._values = 0

    def start(self, tag: str, attrs: dict[str, str]) -> None:
        self._depth += 1
        self._values += tag == VALUE
        if self._depth > 3 * MAX_DEPTH:  # array, data and value are one list
            raise LimitExceeded("the answer is nested too deeply")
        if self._values > MAX_XML_VALUES:
            raise LimitExceeded(f"the answer has more than {MAX_XML_VALUES} values")
        super().start(tag, attrs)

    def end(self, tag: str) -> None:
        self._depth -= 1
        super().end(tag)


async def answer_of(text: str) -> Any:  # noqa: ANN401 - any XML-RPC value
    """Parse an answer and return its value. A large one is parsed in a thread.

    Raises:
        xmlrpc.client.Fault: the answer is a fault.
        ValueError: the text is not an XML-RPC answer, or exceeds a limit.
    """
    if len(text) < THREAD_FROM_BYTES:
        return _parsed(text)
    return await asyncio.to_thread(_parsed, text)


def _parsed(text: str) -> Any:  # noqa: ANN401
    if len(text) > MAX_PARSED_BYTES:
        raise LimitExceeded(f"the answer has more than {MAX_PARSED_BYTES} characters")
    target = _Limited()
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = _refuse
    parser.StartElementHandler = target.start
    parser.EndElementHandler = target.end
    parser.CharacterDataHandler = target.data
    try:
        parser.Parse(text, True)
        return target.close()[0]
    except xmlrpc.client.Fault:
        raise
    except LimitExceeded:
        raise
    except Exception as error:  # a malformed tag can raise anything in the unmarshaller
        raise ValueError(error_text(error)) from error


def _refuse(*_: object) -> NoReturn:
    raise LimitExceeded("the answer declares a document type")

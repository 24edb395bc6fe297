"""Limits on the answers of download clients, so that no answer exhausts memory or CPU.

The modules that read answers apply them: ``http``, ``scgi``, ``xml_rpc``, ``deluge/wire``,
``deluge/rencode`` and ``guard``.
"""

from typing import Final, TypeVar

import msgspec

from mediabus.service.clients.tolerant import mended

T = TypeVar("T")

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""Bytes of one answer, decompressed. 10,000 torrents in qBittorrent take about 13 million."""

MAX_JSON_VALUES: Final = 3_000_000
"""Values in one JSON answer: two bytes such as ``[]`` take a hundred bytes in memory. 50,000
torrents in qBittorrent, with fifty fields each, have 2.5 million."""

MAX_PARSED_BYTES: Final = 32 * 1024 * 1024
"""Bytes of an answer that is parsed by Python code: XML, and Deluge's rencode after decompression.
10,000 torrents in rTorrent take about eight million."""

MAX_RENCODE_VALUES: Final = 1_000_000
"""Values in one rencode answer: about 30,000 torrents, which take a second or two to parse."""

MAX_XML_VALUES: Final = 250_000
"""Values in one XML answer: about 35,000 torrents in rTorrent."""

MAX_DEPTH: Final = 50
"""Nesting depth. Real answers have about five levels."""

MAX_DOWNLOADS: Final = 50_000
"""Downloads in one client."""

MAX_ID_LENGTH: Final = 255
"""Characters of a download's id. An infohash has 40, an nzo_id up to 36."""

MAX_MESSAGE_LENGTH: Final = 1_000
"""Characters of an error message, including the text of the client."""

THREAD_FROM_BYTES: Final = 1024 * 1024
"""Bytes from which Python code parses an answer in a thread, so that parsing for seconds does not
block the event loop."""


class LimitExceeded(ValueError):
    """An answer exceeds a limit. The message names the limit."""


def json_of(body: bytes, kind: type[T], *, strict: bool = True, tolerant: bool = False) -> T:
    """Decode JSON into ``kind``.

    Without ``strict``, numbers may be written as text. With ``tolerant``, values of a wrong type
    are repaired as in ``mended``.

    Raises:
        ValueError: the body is not JSON, does not fit ``kind``, or exceeds a limit.
    """
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_JSON_VALUES:
        raise LimitExceeded(f"the answer has more than {MAX_JSON_VALUES} values")
    try:
        try:
            return msgspec.json.decode(body, type=kind, strict=strict)
        except msgspec.ValidationError:
            if not tolerant:
                raise
            return mended(msgspec.json.decode(body), kind)
    except UnicodeDecodeError:
        raise
    except RecursionError as error:
        raise LimitExceeded("the answer is nested too deeply") from error
    except (msgspec.MsgspecError, ArithmeticError) as error:
        raise ValueError(str(error)) from error


def cut(text: str, longest: int) -> str:
    """Shorten the text to ``longest`` characters and replace what PostgreSQL cannot store.

    These are NUL and characters that have no UTF-8 encoding.
    """
    if len(text) > longest:
        text = f"{text[: longest - 1]}\N{HORIZONTAL ELLIPSIS}"
    if not text.isascii():
        text = text.encode(errors="replace").decode()
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")

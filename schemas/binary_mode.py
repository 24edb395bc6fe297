"""CloudEvents in binary mode: attributes as ``ce-*`` headers, data as the body.

The rules are those of section 3.1 of the NATS protocol binding, which the HTTP binding shares:
header names are case-insensitive, values are percent-encoded UTF-8 and may be quoted strings.
"""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import msgspec

from mediabus.schemas.decoding import NOT_JSON
from mediabus.schemas.envelope import JSON, NO_DATA
from mediabus.schemas.wire import InvalidEvent

PREFIX: Final = "ce-"
SPECVERSION: Final = "ce-specversion"
CONTENT_TYPE_HEADER: Final = "content-type"
STRUCTURED: Final = "application/cloudevents"
BATCH: Final = "application/cloudevents-batch"

_LINE: Final = b"NATS/1.0\r\n"
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_NOT_UTF_8: Final = re.compile("[\N{REPLACEMENT CHARACTER}\ud800-\udfff]")
"""The characters that replace undecodable bytes in a header."""
_UTF_8: Final = {"utf-8", "utf8", "us-ascii", "ascii"}
_TEXTUAL: Final = re.compile(r"text/.+|[^/]+/(?:.+\+)?(?:xml|yaml)")
_JSON: Final = re.compile(r"[^/]+/(?:.+\+)?json")


def is_binary(headers: Mapping[str, str] | None) -> bool:
    """Return whether a message is in binary mode.

    It is if its headers have attributes, and its content type is not that of a structured event.
    """
    if headers is None:  # not "if not headers", which would parse the headers of every message
        return False
    if type(headers) is dict:  # any other mapping ignores case by itself
        headers = {name.lower(): value for name, value in headers.items()}
    if SPECVERSION not in headers:
        return False
    return not str(headers.get(CONTENT_TYPE_HEADER, "")).lower().startswith(STRUCTURED)


def attributes_of(headers: Mapping[str, str]) -> dict[str, Any]:
    """Return the attributes in the headers, decoded. Raises InvalidEvent."""
    lower = {name.lower(): value for name, value in headers.items()}
    attributes: dict[str, Any] = {
        name.removeprefix(PREFIX): _value(name, value)
        for name, value in lower.items()
        if name.startswith(PREFIX) and name != PREFIX
    }
    if CONTENT_TYPE_HEADER in lower:
        attributes.setdefault("datacontenttype", lower[CONTENT_TYPE_HEADER])
    for name in ("data", "data_base64"):
        if name in attributes:
            raise InvalidEvent(f"header ce-{name}: in binary mode the data is the message's body")
    return attributes


def _value(name: str, value: str) -> str:
    """Remove the quotes of a quoted string, then percent-decode once."""
    if not value.isascii() and _NOT_UTF_8.search(value):
        raise InvalidEvent(f"header {name} is not UTF-8: percent-encode it")
    quoted = _QUOTED.fullmatch(value)
    if quoted:
        value = _ESCAPED.sub(r"\1", quoted[1])
    if "%" not in value:
        return value
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeDecodeError as error:
        raise InvalidEvent(f"header {name} is not percent-encoded UTF-8: {error}") from error


def data_of(
    body: bytes, content_type: str | None, *, is_json: bool
) -> tuple[msgspec.Raw, bytes | None]:
    """Return the body as JSON, or as bytes if it is neither JSON nor text.

    Text becomes a JSON string. With ``is_json``, the body must be JSON with any content type,
    because the event's type requires it.
    """
    if not body:
        return NO_DATA, None
    if is_json or (declares_json(content_type) and _is_utf8(content_type)):
        try:
            msgspec.json.decode(body)
        except NOT_JSON as error:
            raise InvalidEvent(f"data is not JSON, but has to be {JSON}: {error}") from error
        return msgspec.Raw(body), None
    if _is_textual(content_type) and _is_utf8(content_type) and b"\0" not in body:
        try:
            return msgspec.Raw(msgspec.json.encode(body.decode())), None
        except UnicodeDecodeError:
            return NO_DATA, body
    return NO_DATA, body


def declares_json(content_type: str | None) -> bool:
    """Return whether data of a content type is JSON."""
    return bool(content_type) and bool(_JSON.fullmatch(_media_type(content_type or "")))


def _is_textual(content_type: str | None) -> bool:
    return bool(content_type) and bool(_TEXTUAL.fullmatch(_media_type(content_type or "")))


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _is_utf8(content_type: str | None) -> bool:
    """Return whether the content type has no ``charset``, or one that is UTF-8."""
    for parameter in (content_type or "").split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip('"').lower() in _UTF_8
    return True


def pack(headers: Mapping[str, str], body: bytes, *, without: str = "") -> bytes:
    """Return a message in binary mode as one byte string.

    The headers of the event come first, in the format of NATS, then the body. ``without`` names a
    header to leave out.
    """
    lines = [
        f"{name}: {value}\r\n"
        for name, value in headers.items()
        if _is_of_event(name.lower()) and name.lower() != without
    ]
    return b"".join((_LINE, "".join(lines).encode(errors="replace"), b"\r\n", body))


def unpack(message: bytes) -> tuple[dict[str, str] | None, bytes]:
    """Return the headers and the body of a message that ``pack`` wrote.

    The headers are None for a message in structured mode.
    """
    if not message.startswith(_LINE):
        return None, message
    head, _, body = message.partition(b"\r\n\r\n")
    lines = (line.partition(": ") for line in head.decode(errors="replace").split("\r\n")[1:])
    return {name: value for name, _, value in lines}, body


def _is_of_event(name: str) -> bool:
    return name.startswith(PREFIX) or name == CONTENT_TYPE_HEADER

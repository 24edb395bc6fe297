"""The headers of a message, read and written by hand: as nats-py would."""

import pytest
from nats.errors import BadHeaderError

from mediabus.runtime.nats.headers import RawHeaders, as_bytes, headers_of

RAW = b"NATS/1.0\r\nNats-Msg-Id: 1\r\nce-type:a.b\r\nnone\r\nCe-Time:  12:30 \r\n\r\n"


def test_headers_are_parsed_when_they_are_read() -> None:
    headers = RawHeaders(RAW)
    assert dict(headers) == {"Nats-Msg-Id": "1", "ce-type": "a.b", "Ce-Time": "12:30"}
    assert len(headers) == 3
    assert headers["ce-type"] == "a.b"
    assert headers.get("ce-id") is None


def test_a_name_is_there_only_as_a_name() -> None:
    headers = RawHeaders(b"NATS/1.0\r\nNote: no ce-specversion here\r\n\r\n")
    assert "ce-specversion" not in headers
    assert "Note" in headers


def test_any_bytes_are_headers() -> None:
    assert headers_of(b"\xff\xfe\r\n:\r\n::\r\na:\xff") == {"": ":", "a": "�"}


def test_what_is_written_is_read_again() -> None:
    headers = {"Nats-Msg-Id": "0198", "X": " one\r\nline: é "}
    assert headers_of(as_bytes(headers)) == {"Nats-Msg-Id": "0198", "X": "one  line: é"}


@pytest.mark.parametrize("name", ["a b", "a:b", "é", "a\r\nb"])
def test_an_invalid_header_name_is_refused(name: str) -> None:
    with pytest.raises(BadHeaderError):
        as_bytes({name: "1"})

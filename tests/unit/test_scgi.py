"""What goes over the wire to a program that speaks SCGI."""

from mediabus.service.clients.scgi import request


def test_an_scgi_request_is_a_netstring_and_the_body() -> None:
    length, _, rest = request(b"<xml/>").partition(b":")

    headers, body = rest[: int(length)], rest[int(length) :]
    assert body == b",<xml/>"
    assert headers.startswith(b"CONTENT_LENGTH\x006\x00SCGI\x001\x00")

"""What may be shown of a text with a key of another program in it."""

import time

import pytest

from mediabus.runtime.redact import without_secrets
from mediabus.service.clients.port import ClientRefused, ClientUnavailable


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("cannot reach http://nas:8080/sab/api", "cannot reach http://nas:8080/sab/api"),
        ("http://me:S3cret@nas:8080/", "http://nas:8080/"),
        ("http://me:S3c@ret@nas:8080/a", "http://nas:8080/a"),
        ("http://me:S3/cret@nas:8080/a", "http://nas:8080/a"),
        ("'https://x.org/api?t=get&apikey=S3cret'", "'https://x.org/api?…'"),
        ("https://x.org/S3cret0123456789abcdef/announce down", "https://x.org/…/announce down"),
        ("http://nas:6789/nzbget:S3cret/jsonrpc", "http://nas:6789/…/jsonrpc"),
        ("bad magnet:?xt=urn:btih:a&tr=http://t/S3cret in line", "bad magnet:?… in line"),
        ("nothing for apikey=S3cret&mode=queue", "nothing for apikey=…&mode=queue"),
        ('{"password": "S3cret"}', '{"password": "…"}'),
        ("passkey=S3cret", "passkey=…"),
        ("not 'me:S3cret@nas:8080'", "not '…@nas:8080'"),
        ("postgresql://me:S3cret@db:5432/m", "postgresql://db:5432/m"),
        ("Dune: Part Two @ 20:00", "Dune: Part Two @ 20:00"),
        ("", ""),
    ],
)
def test_credentials_are_redacted(words: str, shown: str) -> None:
    assert without_secrets(words) == shown


def test_messages_of_clients_are_redacted() -> None:
    words = "no: https://x.org/?apikey=S3cret"
    assert str(ClientRefused(words)) == "no: https://x.org/?…"
    assert str(ClientUnavailable("protocol", words)) == "no: https://x.org/?…"


@pytest.mark.parametrize("piece", ["a", "a.", "a:", "://", "x "])
def test_a_long_text_is_searched_within_a_second(piece: str) -> None:
    """A hostile receiver sends 800 kB of headers; the search must not stop the process."""
    began = time.process_time()
    without_secrets(piece * (20_000 // len(piece)))
    assert time.process_time() - began < 1

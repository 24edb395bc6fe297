"""What may be shown of words in which somebody else put a key."""

import pytest

from service.clients.port import ClientRefused, ClientUnavailable
from service.runtime.redact import without_secrets


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
def test_what_lets_one_in_is_gone(words: str, shown: str) -> None:
    assert without_secrets(words) == shown


def test_what_a_client_says_carries_no_secret_any_further() -> None:
    words = "no: https://x.org/?apikey=S3cret"
    assert str(ClientRefused(words)) == "no: https://x.org/?…"
    assert str(ClientUnavailable("protocol", words)) == "no: https://x.org/?…"

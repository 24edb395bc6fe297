"""Torrent files as clients take them, though no program should write them so.

The descriptions are those of public collections of odd torrent files; the bytes are made here.
What libtorrent takes is taken, with the same id.
"""

import contextlib
import hashlib
import time

import libtorrent
import pytest
from hypothesis import given, strategies

from mediabus.service.clients import bencode
from mediabus.service.clients.bencode import NotBencoded, dictionary, end_of, number_in, text_in
from mediabus.service.clients.metainfo import parse_torrent


def text(value: bytes) -> bytes:
    return b"%d:%b" % (len(value), value)


LENGTH = text(b"length") + b"i5e"
NAME = text(b"name") + text(b"a")
PIECE_LENGTH = text(b"piece length") + b"i16384e"
PIECES = text(b"pieces") + text(bytes(20))
USUAL = LENGTH + NAME + PIECE_LENGTH + PIECES


def file(info: bytes, *, before: bytes = b"", after: bytes = b"") -> bytes:
    return b"d%b4:infod%be%be" % (before, info, after)


TAKEN = {
    "as it should be": file(USUAL),
    "a line end after the end": file(USUAL) + b"\n",
    "a line end of Windows after the end": file(USUAL) + b"\r\n",
    "zeros after the end": file(USUAL) + bytes(512),
    "another torrent after the end": file(USUAL) + file(LENGTH),
    "a number with a leading zero": file(
        LENGTH + NAME + text(b"piece length") + b"i016384e" + PIECES
    ),
    "a length of text with a leading zero": file(LENGTH + b"04:name01:a" + PIECE_LENGTH + PIECES),
    "a key twice": file(USUAL + NAME),
    "a key twice with another value": file(LENGTH + USUAL + text(b"length") + b"i7e"),
    "info twice": file(USUAL, after=b"4:infod" + LENGTH + b"e"),
    "unsorted keys": file(PIECES + NAME + LENGTH + PIECE_LENGTH),
    "unsorted keys outside": file(USUAL, before=b"4:zzzz1:z", after=b"8:announce1:a"),
    "an empty key": file(b"0:i1e" + USUAL),
    "a name in UTF-8 alone": file(
        LENGTH + text(b"name.utf-8") + text(b"a") + PIECE_LENGTH + PIECES
    ),
    "a name that is not UTF-8": file(
        LENGTH + text(b"name") + text(b"\xe9") + PIECE_LENGTH + PIECES
    ),
    "ninety lists inside each other": file(USUAL + b"1:x" + b"l" * 90 + b"e" * 90),
    "a name with a slash": file(LENGTH + text(b"name") + text(b"AC/DC..") + PIECE_LENGTH + PIECES),
    "a negative number": file(USUAL + b"1:xi-7e"),
    "binary keys": file(USUAL + text(b"\xff\x00") + b"le"),
    "an empty list and an empty dictionary": file(USUAL + b"1:xle1:yde"),
    "private and a source": file(USUAL + b"7:privatei1e6:source3:abc"),
}


@pytest.mark.parametrize("content", TAKEN.values(), ids=TAKEN.keys())
def test_torrents_that_libtorrent_accepts_get_the_same_id(content: bytes) -> None:
    theirs = str(libtorrent.load_torrent_buffer(content).info_hashes.v1)

    assert parse_torrent(content).infohashes == (theirs,)


def test_the_id_is_the_hash_of_the_bytes_of_info_as_they_stand() -> None:
    info = b"d" + USUAL.replace(b"i16384e", b"i016384e") + b"e"

    seen = parse_torrent(b"d4:info" + info + b"e\n")

    assert seen.infohashes == (hashlib.sha1(info).hexdigest(),)


ONLY_OTHERS_TAKE = {
    "a number with a blank": file(LENGTH + NAME + text(b"piece length") + b"i 16384e" + PIECES),
    "a number with a plus": file(text(b"length") + b"i+5e" + NAME + PIECE_LENGTH + PIECES),
    "a number without digits": file(USUAL + b"1:xie"),
    "a number beyond 64 bits": file(USUAL + b"1:xi" + b"9" * 5000 + b"e"),
    "five hundred lists inside each other": file(USUAL + b"1:x" + b"l" * 500 + b"e" * 500),
}
"""Not libtorrent, but Transmission or rTorrent."""


@pytest.mark.parametrize("content", ONLY_OTHERS_TAKE.values(), ids=ONLY_OTHERS_TAKE.keys())
def test_torrents_that_some_client_accepts_are_accepted(content: bytes) -> None:
    assert len(parse_torrent(content).infohashes) == 1


REFUSED = {
    "nothing": b"",
    "cut off": file(USUAL)[:-1],
    "cut off in a text": file(USUAL)[:60],
    "a key that is a number": file(USUAL + b"i3ei4e"),
    "a key without a value": file(USUAL + b"1:x"),
    "a text that is longer than the file": file(USUAL + b"1:x999999999:a"),
    "a length of ten thousand digits": file(USUAL + b"1:x" + b"1" * 10_000 + b":a"),
    "a number that does not end": file(USUAL + b"1:xi123"),
    "a negative length": file(USUAL + b"1:x-1:a"),
    "too many lists inside each other": file(USUAL + b"1:x" + b"l" * 5000 + b"e" * 5000),
    "a page": b"<html>not found</html>",
    "a line end before the start": b"\n" + file(USUAL),
    "info that is a list": b"d4:infolee",
    "info that is not closed": b"d4:infod" + USUAL,
    "a name that leads up": file(LENGTH + text(b"name") + text(b"..") + PIECE_LENGTH + PIECES),
    "a name that leads aside": file(
        LENGTH + text(b"name") + text(b"a/../../b") + PIECE_LENGTH + PIECES
    ),
    "a name that leads nowhere": file(LENGTH + text(b"name") + text(b".") + PIECE_LENGTH + PIECES),
    "more ends than beginnings": b"d4:infod" + USUAL + b"e1:xee",
}


@pytest.mark.parametrize("content", REFUSED.values(), ids=REFUSED.keys())
def test_torrents_that_no_client_accepts_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="not a "):
        parse_torrent(content)


@given(strategies.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    with contextlib.suppress(ValueError):
        parse_torrent(b"d4:info" + content)


@given(strategies.integers(0, 400), strategies.binary(min_size=1, max_size=3))
def test_a_changed_torrent_is_read_or_refused(at: int, put: bytes) -> None:
    content = file(USUAL + b"1:xll1:aei7eed1:bi-1ee")
    at %= len(content)
    with contextlib.suppress(ValueError):
        parse_torrent(content[:at] + put + content[at + 1 :])


HUGE = 10 * 1024 * 1024


@pytest.mark.parametrize(
    "content",
    [
        b"d4:infod1:x" + b"l" * HUGE,
        b"d4:infod1:x" + b"d1:a" * (HUGE // 4),
        b"d4:infod1:xl" + b"le" * (HUGE // 2) + b"eee",
        b"d4:infod1:xi" + b"1" * HUGE + b"eee",
        b"d4:infod" + b"1:xle" * (HUGE // 5) + b"ee",
        b"d" + b"9" * HUGE,
    ],
    ids=["lists", "dictionaries", "a wide list", "a number", "a key many times", "a length"],
)
def test_any_content_is_parsed_quickly(content: bytes) -> None:
    begun = time.process_time()

    with pytest.raises(ValueError, match="not a "):
        parse_torrent(content)

    assert time.process_time() - begun < 10


def test_values_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bencode, "MAX_VALUES", 10)

    assert end_of(b"l" + b"i1e" * 8 + b"e", 0) == 26
    with pytest.raises(NotBencoded, match="more than 10 values"):
        end_of(b"l" + b"i1e" * 9 + b"e", 0)


def test_keys_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bencode, "MAX_KEYS", 2)

    assert len(dictionary(b"d1:ai1e1:bi2ee")) == 2
    with pytest.raises(NotBencoded, match="more than 2 keys"):
        dictionary(b"d1:ai1e1:ai2e1:bi2ee")


def test_values_are_found_at_their_offsets() -> None:
    content = b"d1:ai-7e1:b2:xy1:ale1:ci" + b"1" * 20 + b"ee"

    spans = dictionary(content)

    assert spans[b"a"] == [(4, 8), (18, 20)]
    assert number_in(content, spans[b"a"][0]) == -7
    assert number_in(content, spans[b"b"][0]) is None
    assert number_in(content, spans[b"c"][0]) is None
    assert text_in(content, spans[b"b"][0]) == b"xy"
    assert text_in(content, spans[b"a"][1]) is None

"""Messages that are meant to do harm, by the hundred thousand, and what must become of each."""

import random
from typing import Final, Literal, NamedTuple

import msgspec
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as some

from mediabus.schemas import codec
from tests.support.stream import event

Fate = Literal["stored", "buried", "either"]

DEEP: Final = 100_000
PLAIN: Final = b'"HERE"'

HARMLESS: Final = (
    b"123456789012345678901234567890",
    b"-9223372036854775809",
    b"1e300",
    b"1e-300",
    b'"' + b"x" * 10_000 + b'"',
    b"[" * 100 + b"]" * 100,
    '"\\u0001\\u001f\u2028\ufeff\U0010ffff\u202e"'.encode(),
    b'"\\\\u0000 \\\\ud800"',
    b"{}",
    b'{"":{"":null},"HERE":true}',
)
HARMFUL: Final = (
    b"",
    b"nul",
    b"NaN",
    b"-Infinity",
    b"01",
    b"1e400000",
    b"9" * 140_000,
    b'"\xff"',
    b'"\xc0\x80"',
    b'"\xed\xa0\x80"',
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b'"\\u0000"',
    b'{"\\u0000":1}',
    b'"\x00"',
    b'"\n"',
    b"[" * DEEP,
    b"[" * DEEP + b"]" * DEEP,
    b'{"a":' * DEEP,
    b"'single'",
    b"1} {",
)
"""None of these can be in an event, wherever it stands."""

WRONG: Final = (
    b'"specversion":"0.3"',
    b'"id":18446744073709551616',
    b'"source":""',
    b'"type":7',
    b'"type":"' + b"t" * 256 + b'"',
    b'"time":"9999-12-31T23:59:59Z"',
    b'"time":"9999-12-31T23:59:59-14:00"',
    b'"time":"0001-01-01T00:00:00+14:00"',
    b'"time":"10000-01-01T00:00:00Z"',
    b'"time":"1900-01-01T00:00:00Z"',
    b'"time":"2026-02-30T00:00:00Z"',
    b'"time":1e18',
    b'"severity":"fatal"',
    b'"actortype":"robot"',
    b'"actorid":null',
    b'"subject":[]',
    b'"category":{}',
    b'"data":[]',
    b'"data":{"job_name":1}',
    b'"data":null',
)
"""Said last, and in place of what was said before."""

DATES: Final = (
    b'"9999-12-31T23:59:59-14:00"',
    b'"9999-12-31T23:59:59.999999Z"',
    b'"0001-01-01T00:00:00+14:00"',
    b'"0001-01-01T00:00:00Z"',
    b'"294277-01-01T00:00:00Z"',
)
TEXTS: Final = (
    b'"//////////////////////////////8="',
    b'"gAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"',
    b'"f/////////8AAAAAAAAAAAAAAAAAAAAA"',
    b'"\' OR 1=1; DROP TABLE events; --"',
    b'"%s%n$1$?{}"',
    b'"../../../../etc/passwd"',
    b'"*.>"',
    b'" \\t\\r\\n"',
    b'"\xf4\x8f\xbf\xbf"',
    b'"00000000-0000-0000-0000-000000000000"',
)
HEADERS: Final = (
    b"",
    b"Status: 404\r\n",
    b"Status: 409\r\nDescription: Consumer Deleted\r\n",
    b"X(): a\r\n",
    b"a b: c\r\n: d\r\n",
    b"\xff\xfe: \xff\xfe\r\n",
    b"X: \x00\x0b\x0c\x85\r\n",
    b"no colon\r\n",
    b"Mediabus-Kind: mine\r\nMediabus-Body: in-stream\r\nMediabus-Stream-Seq: x\r\n",
    b"Content-Type: text/html\r\n",
)
TOKENS: Final = (
    b"1",
    b"\xff\xfe",
    b"a\x0c7",
    b"a\x0b 7"[:2],
    b"\x00\x01",
    b"x" * 3000,
    b"\xed\xa0\x80",
)


class Message(NamedTuple):
    """As it goes to the server: a subject, header lines, a body; and what must become of it."""

    subject: bytes
    headers: bytes
    body: bytes
    fate: Fate


def generated() -> list[bytes]:
    """JSON of all kinds, as hypothesis thinks of it."""
    found: set[bytes] = set()
    numbers = some.integers() | some.floats(allow_nan=False, allow_infinity=False)
    texts = some.text(some.characters(exclude_categories=["Cs"], exclude_characters="\0"))
    leaves = some.none() | some.booleans() | numbers | texts
    values = some.recursive(
        leaves, lambda inner: some.lists(inner) | some.dictionaries(texts, inner), max_leaves=20
    )

    @settings(
        max_examples=60,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[*HealthCheck],
    )
    @given(some.lists(values, min_size=5))
    def collect(some_values: list[object]) -> None:
        found.update(map(msgspec.json.encode, some_values))

    collect()
    return sorted(found)


def poison(chance: random.Random, number: int) -> list[Message]:
    """So many messages: half of them events in spite of it all."""
    harmless = [*HARMLESS, *generated()]
    return [_message(chance, harmless) for _ in range(number)]


def _message(chance: random.Random, harmless: list[bytes]) -> Message:
    subject = b"events.a.b.c." + chance.choice(TOKENS)
    headers = chance.choice(HEADERS)
    body, fate = _body(chance, harmless)
    return Message(subject, headers, body, fate)


def _body(chance: random.Random, harmless: list[bytes]) -> tuple[bytes, Fate]:
    plain = codec.encode(event("x"))
    with_more = plain[:-2] + b',"more":%b}}'
    what = chance.random()
    if what < 0.5:
        odd = chance.choice(harmless)
        return _with_a_second_id(chance, plain) if what < 0.02 else (with_more % odd, "stored")
    if what < 0.7:
        return plain[:-1] + b"," + chance.choice(WRONG) + b"}", "buried"
    if what < 0.72:  # each of these is large or slow
        return with_more % chance.choice(HARMFUL), "buried"
    if what < 0.8:
        return chance.choice(harmless), "buried"
    if what < 0.9:
        return chance.randbytes(chance.randrange(200)), "buried"
    return _mutated(chance, bytearray(plain)), "either"


def _with_a_second_id(chance: random.Random, plain: bytes) -> tuple[bytes, Fate]:
    """Return the id of an event: the last one in its JSON, which need not be a UUID.

    Of the events with one id, the first is stored. The others are other events with a key that is
    taken.
    """
    if chance.random() < 0.5:
        return plain[:-1] + b',"id":"1"}', "either"
    return plain[:-1] + b',"id":"%x"}' % chance.getrandbits(128), "stored"


def _mutated(chance: random.Random, body: bytearray) -> bytes:
    for _ in range(chance.randrange(1, 4)):
        place = chance.randrange(len(body))
        match chance.randrange(3):
            case 0:
                body[place] = chance.randrange(256)
            case 1:
                del body[place : place + chance.randrange(1, 20)]
            case _:
                body[place:place] = chance.randbytes(3)
        if not body:
            break
    return bytes(body)

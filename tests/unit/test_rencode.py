"""The encoding of Deluge's daemon: what it sends is read, and what it reads is sent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediabus.service.clients.deluge.rencode import decode, encode

KNOWN = {
    b"E": None,
    b"C": True,
    b"D": False,
    b"\x00": 0,
    b"\x2b": 43,
    b"\x3e\x2c": 44,
    b"\x3e\x7f": 127,
    b"\x46": -1,
    b"\x65": -32,
    b"\x3e\xdf": -33,
    b"\x3f\x00\x80": 128,
    b"\x40\x00\x00\x80\x00": 32768,
    b"\x41\x00\x00\x00\x00\x80\x00\x00\x00": 1 << 31,
    b"\x3d9223372036854775808\x7f": 1 << 63,
    b"\x3d-9223372036854775809\x7f": -(1 << 63) - 1,
    b"\x2c\x3f\xf8\x00\x00\x00\x00\x00\x00": 1.5,
    b"\x80": "",
    b"\x82\xc3\xbc": "ü",
    b"64:" + 64 * b"a": 64 * "a",
    b"\xc0": (),
    b"\xc3\x01\x02\x03": (1, 2, 3),
    b";" + 64 * b"\x01" + b"\x7f": 64 * (1,),
    b"\x66": {},
    b"\x67\x81a\xc1\x01": {"a": (1,)},
    b"<" + b"".join(bytes([i, i]) for i in range(25)) + b"\x7f": {i: i for i in range(25)},
}
"""What the rencode package itself makes of values at the edges of its types."""


@pytest.mark.parametrize(("data", "value"), KNOWN.items())
def test_the_bytes_of_the_original_are_read_and_written(data: bytes, value: object) -> None:
    assert decode(data) == value
    assert encode(value) == data


def test_short_floats_and_invalid_text_are_decoded() -> None:
    assert decode(b"\x42\x3f\xc0\x00\x00") == 1.5
    assert decode(b"\x82\xff\xfe") == "\ufffd\ufffd"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=70).map(tuple)
        | st.dictionaries(st.text(max_size=70), inner, max_size=30)
    ),
    max_leaves=100,
)


@given(values)
def test_what_is_written_is_read_again(value: object) -> None:
    assert decode(encode(value)) == value


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_an_error(data: bytes) -> None:
    try:
        decode(data)
    except ValueError as error:
        assert "rencode" in str(error)  # noqa: PT017 - most bytes are invalid, and some are not


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00\x00", b"\x3e", b"\x83ab", b"5:abc", b"5", b";\x01", b"\x3dx\x7f", b"\x7f", b"-"],
)
def test_half_a_value_or_two_are_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="rencode"):
        decode(data)


def test_lists_without_end_are_an_error_before_the_stack_ends() -> None:
    with pytest.raises(ValueError, match="nested more than"):
        decode(b"\xc1" * 5000)


def test_a_value_without_an_encoding_is_refused() -> None:
    with pytest.raises(TypeError, match="no bytes"):
        encode(b"raw")

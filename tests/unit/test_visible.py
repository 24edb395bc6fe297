"""What a terminal would obey becomes visible, and JSON keeps its meaning."""

import json

from hypothesis import given
from hypothesis import strategies as st

from mediabus.runtime.visible import json_line, plain, plain_lines

ANYTHING = st.text(st.characters(codec="utf-8"))


@given(ANYTHING)
def test_a_plain_text_is_one_printable_line(text: str) -> None:
    assert plain(text).isprintable()
    assert len(plain(text)) == len(text)


@given(ANYTHING)
def test_plain_lines_keep_only_line_ends_and_tabs(
    text: str,
) -> None:
    shown = plain_lines(text.replace("\x1b", "\x9b"))
    assert shown.replace("\n", "").replace("\t", "").isprintable()


def test_colors_pass_and_similar_sequences_do_not() -> None:
    assert plain_lines("\x1b[32mok\x1b[0m\n") == "\x1b[32mok\x1b[0m\n"
    assert plain_lines("\x1b[1;38;5;197mbar\x1b[0m") == "\x1b[1;38;5;197mbar\x1b[0m"
    for obeyed in ("\x1b[8m", "\x1b[7m", "\x1b[5m", "\x1b[2J", "\x1b]0;x\x07", "\x9b31m", "\r"):
        assert "\x1b" not in plain_lines(obeyed)
        assert plain_lines(obeyed) != obeyed


@given(st.recursive(ANYTHING | st.integers(), lambda inner: st.dictionaries(ANYTHING, inner)))
def test_json_is_one_printable_line_that_means_the_same(value: object) -> None:
    encoded = json.dumps(value, ensure_ascii=False, indent=1).encode()
    line = json_line(encoded)
    assert line.decode().isprintable()
    assert json.loads(line) == value

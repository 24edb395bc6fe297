"""Texts of clients fit into events: long ones are cut and marked."""

from hypothesis import given
from hypothesis import strategies as st

from mediabus.schemas import codec
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import DownloadFailed
from mediabus.schemas.fitting import LONGEST_TEXT, fitted, fitted_text
from mediabus.schemas.identity import Actor, Resource, uuid7
from mediabus.service.operations.metadata import MAX_METADATA_BYTES, shown_in_event, written_size

ANY_TEXT = st.text(st.characters(codec=None), max_size=50).flatmap(
    lambda text: st.sampled_from([text, text * 40_000])
)


@given(ANY_TEXT, ANY_TEXT)
def test_an_event_of_any_texts_can_be_encoded(title: str, message: str) -> None:
    event = DownloadFailed(
        download_id=uuid7(),
        title=title,
        client=title,
        client_item=title,
        indexer=title,
        media_title=title,
        reason="rejected",
        error_message=message,
    )
    envelope = Envelope.of(fitted(event), actor=Actor("system", "x"), resource=Resource("d", "1"))
    assert codec.decode(codec.encode(envelope))


def test_a_text_that_fits_is_unchanged() -> None:
    event = DownloadFailed(
        download_id=uuid7(), title="ü \x1b", client="c", reason="rejected", error_message=""
    )
    assert fitted(event) is event
    assert fitted_text("x" * LONGEST_TEXT) == "x" * LONGEST_TEXT


def test_a_shortened_text_is_marked() -> None:
    cut = fitted_text("x" * 2_000_000)
    assert len(cut) == LONGEST_TEXT
    assert cut.endswith("x… [shortened from 2000000 characters]")
    assert fitted_text("a\0b\ud800c") == "a\ufffdb\ufffdc"


def test_numbers_count_as_postgresql_writes_them() -> None:
    assert written_size(1e300) == 301
    assert written_size(1e-300) == 302
    assert written_size({"a": [1.5, "b", None, True]}) >= len('{"a": [1.5, "b", null, true]}')


def test_oversized_metadata_is_replaced_by_its_size() -> None:
    small = {"a": 1}
    assert shown_in_event(small) is small
    assert shown_in_event({"a": "x" * MAX_METADATA_BYTES})["mediabus_omitted_bytes"] > 250_000

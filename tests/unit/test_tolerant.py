"""One odd value of a client's JSON hides nothing else of the answer."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediabus.schemas.status import ClientName
from mediabus.service.clients.limits import json_of
from mediabus.service.clients.nzbget import states as nzbget
from mediabus.service.clients.sabnzbd import rpc as sabnzbd
from mediabus.service.clients.sabnzbd.states import past, phase_of, queued
from mediabus.service.clients.tolerant import MAX_BIGINT, mended, size_of

CLIENT = ClientName("usenet")
GROUP = {
    "NZBID": 7,
    "NZBName": "Dune",
    "Status": "DOWNLOADING",
    "Category": "tv",
    "FileSizeLo": 1,
    "FileSizeHi": 1,
    "RemainingSizeLo": 1,
    "MaxPriority": 0,
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
ODD: list[object] = [None, True, -1, 2**70, 1.5, "", "nan", [], {}, [[]]]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("field", sorted(GROUP.keys() - {"NZBID"}))
def test_an_invalid_field_hides_no_group(field: str, odd: object) -> None:
    body = msgspec.json.encode([GROUP | {field: odd}, GROUP | {"NZBID": 8}])

    groups = json_of(body, list[nzbget.Group], tolerant=True)

    assert [group.nzb_id for group in groups] == [7, 8]
    for group in groups:
        nzbget.queued(CLIENT, group, nzbget.State())


@pytest.mark.parametrize("odd", [None, "x", [], {}])
def test_record_without_an_id_makes_the_answer_unreadable(odd: object) -> None:
    for record in (GROUP | {"NZBID": odd}, odd):
        body = msgspec.json.encode([record, GROUP])

        with pytest.raises(ValueError, match=r"Expected `|missing required field"):
            json_of(body, list[nzbget.Group], tolerant=True)


def test_odd_entry_is_left_out_of_a_list_that_only_explains() -> None:
    odd = {"warnings": [None, {"text": "full"}, 5]}

    assert [it.text for it in mended(odd, sabnzbd.Warnings).warnings] == ["full"]


@pytest.mark.parametrize("answer", [None, {}, 5, "x"])
def test_a_value_that_is_not_a_list_is_refused(answer: object) -> None:
    with pytest.raises(ValueError, match="Expected `array`"):
        json_of(msgspec.json.encode(answer), list[nzbget.Group], tolerant=True)


def test_invalid_fields_are_errors_unless_tolerant() -> None:
    with pytest.raises(ValueError, match="Expected `str`"):
        json_of(msgspec.json.encode([GROUP | {"Category": None}]), list[nzbget.Group])


@given(JSON)
def test_any_answer_is_converted_or_refused(answer: Any) -> None:
    for kind in (list[nzbget.Finished], sabnzbd.QueueReply, sabnzbd.HistoryReply, sabnzbd.Warnings):
        try:
            mended(answer, kind)
        except msgspec.ValidationError:
            continue


@given(st.dictionaries(st.sampled_from(["filename", "mb", "mbleft", "timeleft", "labels"]), JSON))
def test_a_slot_of_any_fields_has_a_status(fields: dict[str, Any]) -> None:
    reply = mended({"queue": {"slots": [fields | {"nzo_id": "1"}]}}, sabnzbd.QueueReply)

    (slot,) = reply.queue.slots
    status = queued(CLIENT, slot, phase_of(slot, paused=False, in_turn=True))
    assert 0 <= status.progress <= 1
    assert 0 <= (status.size or 0) <= MAX_BIGINT


@given(st.dictionaries(st.sampled_from(["name", "bytes", "storage", "stage_log", "status"]), JSON))
def test_an_entry_of_the_history_of_any_fields_has_a_status(fields: dict[str, Any]) -> None:
    reply = mended({"history": {"slots": [fields | {"nzo_id": "1"}]}}, sabnzbd.HistoryReply)

    assert not isinstance(reply.history, bool)
    (entry,) = reply.history.slots
    assert past(CLIENT, entry).item == "1"


@pytest.mark.parametrize(
    ("amount", "size"),
    [
        (1.5, 1572864),
        (0, 0),
        (-1, 0),
        (float("nan"), 0),
        (float("inf"), 0),
        (1e300, MAX_BIGINT),
        (1e308, MAX_BIGINT),
    ],
)
def test_a_size_is_one_that_the_database_holds(amount: float, size: int) -> None:
    assert size_of(amount, 1 << 20) == size

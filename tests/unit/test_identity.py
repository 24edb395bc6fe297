"""Ids that sort by time, and names for who and what."""

import time
import uuid

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from mediabus.schemas.events import JobExecuted
from mediabus.schemas.identity import Actor, ProvenActor, Resource, uuid7
from tests.support import lives

MILLISECONDS = some.integers(0, 2**48 - 1)


@given(MILLISECONDS)
def test_an_id_is_a_uuid_of_version_7_and_holds_its_time(milliseconds: int) -> None:
    made = uuid7(milliseconds)
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == milliseconds


@given(MILLISECONDS, MILLISECONDS)
def test_ids_of_different_milliseconds_sort_by_time(one: int, other: int) -> None:
    if one != other:
        assert (uuid7(one) < uuid7(other)) == (one < other)


def test_ids_are_of_now_and_never_the_same() -> None:
    before = time.time_ns() // 1_000_000
    made = [uuid7() for _ in range(1000)]
    after = time.time_ns() // 1_000_000
    assert len(set(made)) == 1000
    assert all(before <= one.int >> 80 <= after for one in made)


def test_actors_and_resources_read_as_they_are_written() -> None:
    assert str(Actor("user", "42")) == "user:42"
    assert str(Resource("media_item", "7")) == "media_item/7"


@pytest.mark.parametrize("wrong", [{"type": "robot", "id": "1"}, {"type": "user", "id": ""}])
def test_an_actor_is_of_a_known_kind_and_has_an_id(wrong: dict[str, str]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, Actor)


@pytest.mark.parametrize(
    ("proof", "is_proven"), [("user:42", True), (None, False), ("user:7", False), ("job:42", False)]
)
def test_an_ask_is_proven_only_of_the_actor_that_was(proof: str | None, is_proven: bool) -> None:
    row = msgspec.structs.replace(
        lives.row("active", asked="pause"),
        asked_by_type="user",
        asked_by_id="42",
        asked_proven=proof,
    )
    asker = row.asked_by
    assert asker is not None
    assert (str(asker), isinstance(asker, ProvenActor)) == ("user:42", is_proven)
    assert row.envelope(row.fact(JobExecuted(job_name="a"), asker)).actor_verified is is_proven

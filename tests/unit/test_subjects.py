"""NATS names: a subject for each event, with any names, and filters that match it."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from mediabus.schemas.docs.examples import EVENT, MEDIA_ITEM, TIME
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import JobExecuted
from mediabus.schemas.identity import Actor, Resource
from mediabus.schemas.status import ClientName, ItemId
from mediabus.schemas.subjects import (
    filter_for,
    item_of_key,
    status_key,
    subject_of,
    token,
    type_of,
)

NAMES = some.text(some.characters(codec="utf-8"), min_size=1, max_size=300) | some.text(
    "ab.-*> ", min_size=1, max_size=5
)


def envelope(event_type: str, category: str = "media", resource: str | None = None) -> Envelope:
    return Envelope(
        id=EVENT,
        type=event_type,
        time=TIME,
        source="test",
        category=category,
        severity="info",
        resource=Resource("thing", resource) if resource else None,
    )


def lets_through(subject_filter: str, subject: str) -> bool:
    """What NATS does with a filter."""
    wanted, tokens = subject_filter.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted, tokens = wanted[:-1], tokens[: len(wanted) - 1]
    return len(wanted) == len(tokens) and all(
        want in {"*", token} for want, token in zip(wanted, tokens, strict=True)
    )


def test_a_subject_has_category_resource_action_and_id() -> None:
    made = Envelope.of(
        JobExecuted(job_name="scan"),
        actor=Actor("job", "scan"),
        resource=Resource("job", str(MEDIA_ITEM)),
    )
    assert subject_of(made) == f"events.system.job.executed.{MEDIA_ITEM}"


@pytest.mark.parametrize(
    ("made", "subject"),
    [
        (envelope("job.failed"), "events.media.job.failed.-"),
        (envelope("noun"), "events.media.noun.-.-"),
        (envelope("a.b.c"), "events.media.a.b%2Ec.-"),
        (envelope("a.b", resource="-"), "events.media.a.b.%2D"),
        (envelope("a.b", resource="x y*>.z"), "events.media.a.b.x%20y%2A%3E%2Ez"),
        (envelope("a.b", category="größer"), "events.gr%C3%B6%C3%9Fer.a.b.-"),
        (envelope(".b"), "events.media.-.b.-"),
    ],
)
def test_special_characters_of_nats_are_encoded(made: Envelope, subject: str) -> None:
    assert subject_of(made) == subject


@given(NAMES, NAMES, some.none() | NAMES)
def test_every_subject_is_one_that_nats_takes(
    event_type: str, category: str, resource: str | None
) -> None:
    subject = subject_of(envelope(event_type, category, resource))
    tokens = subject.split(".")
    assert len(tokens) == 5
    assert all(tokens)
    assert not set(subject) & set(" \t\r\n*>")
    assert subject.isascii()
    assert len(subject) < 1100


@given(NAMES, NAMES)
def test_different_texts_have_different_tokens(one: str, other: str) -> None:
    assert (token(one) == token(other)) == (one == other)


def test_long_ids_with_the_same_start_have_different_tokens() -> None:
    assert token("x" * 255) == "x" * 255
    assert token("x" * 256) != token("x" * 257)


@pytest.mark.parametrize(
    ("arguments", "subject_filter"),
    [
        ({}, "events.>"),
        ({"category": "downloads"}, "events.downloads.>"),
        ({"event_type": "download.failed"}, "events.*.download.failed.>"),
        ({"event_type": "download"}, "events.*.download.>"),
        ({"resource_id": "7"}, "events.*.*.*.7"),
        ({"category": "a", "event_type": "b.c", "resource_id": "d"}, "events.a.b.c.d"),
    ],
)
def test_filters_are_as_narrow_as_can_be(arguments: dict[str, str], subject_filter: str) -> None:
    assert filter_for(**arguments) == subject_filter


@given(NAMES, NAMES, NAMES, some.sets(some.sampled_from(["category", "event_type", "resource_id"])))
def test_an_event_passes_every_filter_for_it(
    event_type: str, category: str, resource: str, chosen: set[str]
) -> None:
    made = envelope(event_type, category, resource)
    every = {"category": category, "event_type": event_type, "resource_id": resource}
    wanted = filter_for(**{name: every[name] for name in chosen})
    assert lets_through(wanted, subject_of(made))
    elsewhere = msgspec.structs.replace(made, category=f"{category}x"[-300:])
    if "category" in chosen and elsewhere.category != category:
        assert not lets_through(wanted, subject_of(elsewhere))


@given(some.text(some.characters(codec="utf-8"), max_size=60))
def test_a_status_key_names_its_download_again(item: str) -> None:
    client = ClientName("home-1")
    key = status_key(client, ItemId(item))
    if item:
        assert item_of_key(key) == (client, ItemId(item))
    assert key.isascii()
    assert item_of_key(client) is None


@pytest.mark.parametrize(
    "event_type", ["media_item.added", "job", "a.b.c", "über.c d", "x.*", "-.>", "a.-"]
)
def test_the_type_is_read_from_the_subject(event_type: str) -> None:
    subject = subject_of(envelope(event_type, resource="a.b"))
    assert type_of(subject) == event_type
    assert type_of(f"replay.mine.{subject}") == event_type


@pytest.mark.parametrize(
    "subject", ["", "events", "events.a.b.c", "other.a.b.c.d", "events.a.-.-.-"]
)
def test_a_subject_without_a_type_has_none(subject: str) -> None:
    assert type_of(subject) is None

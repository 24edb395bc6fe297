"""Which events a target gets: patterns, severity, filters of CloudEvents Subscriptions."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from mediabus.consumers.notifier.patterns import Pattern, filters
from mediabus.consumers.notifier.rules import Rule
from mediabus.consumers.notifier.where import MAX_DEPTH, where
from mediabus.schemas.docs.examples import example
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import EVENT_TYPES, JobExecuted, JobFailed
from mediabus.schemas.identity import Actor, Resource
from mediabus.schemas.subjects import subject_of

EVENT = msgspec.structs.replace(
    Envelope.of(
        JobFailed(job_name="scan", duration_ms=2.5, error_message="disk full"),
        actor=Actor("user", "42"),
        resource=Resource("job", "scan"),
        correlation_id="c1",
    ),
    extensions={"tenant": "home", "retries": 3, "urgent": True},
)
PATTERNS = [
    "download.failed",
    "health.*",
    "downloads/*",
    "*",
    "*.failed",
    "media/media_file.*",
    "job.f*",
]


def rule(*patterns: str, **options: Any) -> Rule:
    return Rule(target="phone", patterns=tuple(map(Pattern.of, patterns)), **options)


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("job.failed", True),
        ("job.executed", False),
        ("job.*", True),
        ("*.failed", True),
        ("system/*", True),
        ("media/*", False),
        ("system/job.f*", True),
        ("*", True),
        ("job", False),
    ],
)
def test_patterns_match_types_and_categories(pattern: str, matches: bool) -> None:
    assert rule(pattern).matches(EVENT) is matches


@pytest.mark.parametrize("text", ["", "a b", "downloads/", "/x", "a/b/c", "events.>"])
def test_what_matches_no_type_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="matches no event type"):
        Pattern.of(text)


def matches_filter(subject: str, subjects: str) -> bool:
    """As NATS matches."""
    tokens = subject.split(".")
    for at, wanted in enumerate(subjects.split(".")):
        if wanted == ">":
            return len(tokens) > at
        if at >= len(tokens) or wanted not in {"*", tokens[at]}:
            return False
    return len(tokens) == len(subjects.split("."))


@given(some.lists(some.sampled_from(PATTERNS), min_size=1, max_size=4))
def test_the_filters_of_nats_let_pass_every_event_that_matches_and_each_only_once(
    texts: list[str],
) -> None:
    patterns = [Pattern.of(text) for text in texts]
    subjects = filters(patterns)
    for event_class in EVENT_TYPES.values():
        envelope = example(event_class)
        passed = [one for one in subjects if matches_filter(subject_of(envelope), one)]
        assert len(passed) <= 1
        if any(one.matches(envelope.category, envelope.type) for one in patterns):
            assert passed, (envelope.type, subjects)


def test_filters_are_narrow_where_nats_allows_it() -> None:
    assert filters([Pattern.of("download.failed"), Pattern.of("health.*")]) == [
        "events.*.health.>",
        "events.*.download.failed.>",
    ]
    assert filters([Pattern.of("downloads/*"), Pattern.of("download.failed")]) == ["events.>"]
    assert filters([Pattern.of("job.*"), Pattern.of("job.failed")]) == ["events.*.job.>"]


def test_severity_is_the_least_one() -> None:
    assert rule("*", severity="warning").matches(EVENT)
    assert not rule("*", severity="error").matches(
        Envelope.of(JobExecuted(job_name="x"), actor=Actor("job", "x"))
    )


def test_imported_history_never_notifies() -> None:
    imported = msgspec.structs.replace(EVENT, extensions={"imported": True})
    assert not rule("*").matches(imported)


def test_events_of_targets_notify_only_other_targets_that_name_them() -> None:
    failing = example(EVENT_TYPES["notification.target_failing"])
    mail = Rule(target="mail", patterns=(Pattern.of("notification.*"),))
    assert mail.matches(failing)
    assert not rule("notification.*").matches(failing)
    assert not Rule(target="mail", patterns=(Pattern.of("*"),)).matches(failing)
    for name in ("notification.delivered", "notification.failed"):
        assert not mail.matches(example(EVENT_TYPES[name]))


@pytest.mark.parametrize(
    ("table", "matches"),
    [
        ({"exact": {"type": "job.failed"}}, True),
        ({"exact": {"type": "job.failed", "severity": "info"}}, False),
        ({"prefix": {"subject": "job/"}}, True),
        ({"suffix": {"type": ".failed"}}, True),
        ({"exact": {"actorid": "42", "actortype": "user", "correlationid": "c1"}}, True),
        ({"exact": {"tenant": "home", "retries": 3, "urgent": True}}, True),
        ({"exact": {"missing": ""}}, False),
        ({"not": {"exact": {"missing": "x"}}}, True),
        ({"exact": {"data.job_name": "scan", "data.duration_ms": 2.5}}, True),
        ({"prefix": {"data.error_message": "network"}}, False),
        ({"exact": {"data.job_name.deeper": "scan"}}, False),
        ({"any": [{"exact": {"type": "x"}}, {"suffix": {"source": "system"}}]}, True),
        ({"all": [{"exact": {"type": "x"}}, {"suffix": {"source": "system"}}]}, False),
        ({"prefix": {"type": "job."}, "suffix": {"type": ".executed"}}, False),
        ([{"prefix": {"type": "job."}}, {"not": {"suffix": {"type": ".executed"}}}], True),
        ({"exact": {"specversion": "1.0", "datacontenttype": "application/json"}}, True),
    ],
)
def test_filters_match_as_cloudevents_says(table: Any, matches: bool) -> None:
    assert where(table)(EVENT) is matches


def nested(depth: int) -> dict[str, Any]:
    table: dict[str, Any] = {"exact": {"type": "x"}}
    for _ in range(depth):
        table = {"not": table}
    return table


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({}, "is not a filter"),
        ("type = x", "is not a filter"),
        ({"sql": "1 = 1"}, "unknown dialect 'sql'"),
        ({"exact": {}}, "exact takes attributes"),
        ({"exact": {"type": ["x"]}}, "compares with text"),
        ({"any": []}, "any takes a list"),
        ({"all": {"exact": {"type": "x"}}}, "all takes a list"),
        ({"not": []}, "is not a filter"),
        (nested(MAX_DEPTH + 1), "nested more than"),
    ],
)
def test_what_is_no_filter_is_refused(table: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        where(table)

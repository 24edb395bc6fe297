"""The lifecycle's laws: what holds whatever a client shows, and in whatever order."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.commands import DownloadState
from schemas.events import (
    DownloadCompleted,
    DownloadFailed,
    DownloadInitiated,
    DownloadResumed,
    Event,
)
from schemas.status import DownloadStatus, Phase
from service.downloads.row import Ask, DownloadRow, Transition
from service.monitor import lifecycle
from service.monitor.lifecycle import Gone
from tests.support.lives import (
    BETWEEN,
    BUSY,
    LONG_AGO,
    STALLED_AFTER,
    STATES,
    next_step,
    row,
    shows,
)

ANYTHING = st.sampled_from(
    [
        *[Gone()] * len(Phase),  # as often as every fifth
        *(
            shows(phase, idle_for=idle_for, by_restart=by_restart)
            for phase in Phase
            for idle_for in (0, STALLED_AFTER)
            for by_restart in (False, True)
        ),
    ]
)
ROWS = st.builds(
    row,
    st.sampled_from(STATES),
    asked=st.sampled_from([None, "pause", "resume", "cancel", "cancel_with_files"]),
    unchanged_for=st.sampled_from([0.0, 1.0, LONG_AGO]),
)


def stepped(before: DownloadRow, step: Transition) -> DownloadRow:
    """The row after the step, a long time later."""
    return msgspec.structs.replace(
        before,
        state=step.state,
        reason=step.reason,
        asked=None,
        asked_by_type=None,
        asked_by_id=None,
        asked_correlation_id=None,
        asked_for=None,
        unchanged_for=LONG_AGO,
    )


def settled(before: DownloadRow, seen: DownloadStatus | Gone) -> tuple[DownloadRow, list[Event]]:
    """The row once nothing more follows from what is seen, and what was told on the way."""
    current: DownloadRow = before
    said: list[Event] = []
    for _ in range(3):
        step = next_step(current, seen)
        if not isinstance(step, Transition):
            return current, said
        said += [told.event for told in step.events if told.event]
        current = stepped(current, step)
    raise AssertionError(f"there is no end to it: {said}")


@given(ROWS, ANYTHING)
def test_the_same_status_again_and_again_says_nothing_twice(
    before: DownloadRow, seen: DownloadStatus | Gone
) -> None:
    _, events = settled(before, seen)
    said = [event.type for event in events]
    assert len(said) == len(set(said))
    assert len(said) <= 2


@given(ROWS, ANYTHING)
def test_no_event_without_a_transition_and_none_is_silent_but_for_two_reasons(
    before: DownloadRow, seen: DownloadStatus | Gone
) -> None:
    step = next_step(before, seen)
    if not isinstance(step, Transition):
        return
    if step.events:
        assert step.state != before.state
    else:
        assert isinstance(seen, DownloadStatus)
        assert seen.by_restart or before.state == "completed" == step.state


@given(ROWS, ANYTHING)
def test_once_a_status_was_looked_at_it_has_nothing_left_to_lead_to(
    before: DownloadRow, seen: DownloadStatus | Gone
) -> None:
    current, _ = settled(before, seen)
    assert not isinstance(next_step(current, seen), Transition)


Look = tuple[DownloadStatus | Gone, Ask | None, float]
LOOKS = st.lists(
    st.tuples(
        ANYTHING,
        st.sampled_from([None, "pause", "resume", "cancel", "cancel_with_files"]),
        st.sampled_from([0.0, LONG_AGO]),
    ),
    max_size=6,
)
"""What is seen, what was asked for by then, and how long ago the row last changed."""


def about_to_be_looked_at(
    current: DownloadRow, seen: DownloadStatus | Gone, asked: Ask | None, unchanged_for: float
) -> DownloadRow:
    """The row by then: of what was taken out and is there again, that of a new download."""
    before = row(current.state, asked=asked, unchanged_for=unchanged_for)
    if isinstance(seen, DownloadStatus) and lifecycle.is_stranger(before):
        return row("active", asked=asked)
    return msgspec.structs.replace(before, reason=current.reason)


LEADS_TO: dict[Phase, DownloadState] = {
    **dict.fromkeys(BUSY, "active"),
    Phase.PAUSED: "paused",
    Phase.COMPLETED: "completed",
    Phase.FAILED: "failed",
}
KEPT = {
    *((state, phase) for state in STATES for phase in BETWEEN if state != "initiating"),
    *(("completed", phase) for phase in Phase),
    ("failed", Phase.PAUSED),
    ("stalled", Phase.QUEUED),
}
"""Which states outlast which phases."""


def implied(before: DownloadState, last: DownloadStatus | Gone) -> DownloadState:
    if isinstance(last, Gone):
        return before if before in {"initiating", "removed", "cancelled"} else "removed"
    if (before, last.phase) in KEPT:
        return before
    if last.phase in lifecycle.WAITING and last.idle_for >= STALLED_AFTER:
        return "stalled"
    return LEADS_TO.get(last.phase, "active")


@settings(max_examples=1000)
@given(st.sampled_from(STATES), LOOKS, ANYTHING)
def test_any_sequence_of_statuses_leaves_the_state_that_its_last_one_implies(
    state: DownloadState, looks: list[Look], last: DownloadStatus | Gone
) -> None:
    current = row(state)
    for seen, asked, unchanged_for in looks:
        current = about_to_be_looked_at(current, seen, asked, unchanged_for)
        current, _ = settled(current, seen)
    current = about_to_be_looked_at(current, last, None, LONG_AGO)
    expected = implied(current.state, last)
    current, _ = settled(current, last)
    assert current.state == expected


@settings(max_examples=1000)
@given(LOOKS)
def test_exactly_one_completed_or_failed_an_attempt(looks: list[Look]) -> None:
    """An attempt begins as it is initiated, discovered or resumed, and a row says how it ended."""
    current = row("initiating", asked="initiate")
    ends = 0
    for seen, asked, unchanged_for in looks:
        was_taken_out = current.state in {"removed", "cancelled"}
        current = about_to_be_looked_at(current, seen, asked, unchanged_for)
        if was_taken_out and current.state == "active":
            ends = 0
        current, said = settled(current, seen)
        for event in said:
            if isinstance(event, DownloadResumed | DownloadInitiated):
                ends = 0
            ends += isinstance(event, DownloadCompleted | DownloadFailed)
            assert ends <= 1
        if current.state not in {"removed", "cancelled"}:
            assert ends == (current.state in {"completed", "failed"})

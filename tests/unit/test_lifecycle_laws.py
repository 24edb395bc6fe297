"""Invariants of the lifecycle that hold for every sequence of statuses."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from mediabus.schemas.events import (
    DownloadCompleted,
    DownloadFailed,
    DownloadInitiated,
    DownloadResumed,
    Event,
)
from mediabus.schemas.operations.requests import DownloadState
from mediabus.schemas.status import TRANSFERRING, DownloadStatus, Phase
from mediabus.service.downloads.row import Ask, DownloadRow, Transition
from mediabus.service.monitor.follow import lifecycle
from mediabus.service.monitor.follow.lifecycle import Gone
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
        *[Gone()] * 2 * len(Phase),  # as often as every fifth
        *(
            shows(phase, idle_for=idle_for, moved=moved, by_restart=by_restart)
            for phase in Phase
            for moved in (False, True)
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
    """Return the row a long time after the transition."""
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
    """Return the row after all transitions that a status leads to, and their events."""
    current: DownloadRow = before
    emitted: list[Event] = []
    for _ in range(3):
        step = next_step(current, seen)
        if not isinstance(step, Transition):
            return current, emitted
        emitted += [fact.event for fact in step.events]
        current = stepped(current, step)
    raise AssertionError(f"there is no end to it: {emitted}")


@given(ROWS, ANYTHING)
def test_repeated_status_emits_no_event_twice(
    before: DownloadRow, seen: DownloadStatus | Gone
) -> None:
    _, events = settled(before, seen)
    emitted = [event.type for event in events]
    assert len(emitted) == len(set(emitted))
    assert len(emitted) <= 2


@given(ROWS, ANYTHING)
def test_events_and_state_changes_imply_each_other(
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
def test_handled_status_leads_to_no_further_transition(
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
"""A status, the pending request, and the seconds since the row changed."""


def before_next_status(
    current: DownloadRow, seen: DownloadStatus | Gone, asked: Ask | None, unchanged_for: float
) -> DownloadRow:
    """Return the row that meets the status: a new one if the download was removed before."""
    before = row(current.state, asked=asked, unchanged_for=unchanged_for)
    if isinstance(seen, DownloadStatus) and lifecycle.is_untracked(before):
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
"""The states that a phase does not change."""


def implied(before: DownloadState, last: DownloadStatus | Gone) -> DownloadState:
    if isinstance(last, Gone):
        return before if before in {"initiating", "removed", "cancelled"} else "removed"
    if before == "stalled" and last.phase in TRANSFERRING and not last.moved:
        return before
    if (before, last.phase) in KEPT:
        return before
    if last.phase in TRANSFERRING and last.idle_for >= STALLED_AFTER:
        return "stalled"
    return LEADS_TO.get(last.phase, "active")


@settings(max_examples=1000)
@given(st.sampled_from(STATES), LOOKS, ANYTHING)
def test_final_state_follows_from_last_status(
    state: DownloadState, looks: list[Look], last: DownloadStatus | Gone
) -> None:
    current = row(state)
    for seen, asked, unchanged_for in looks:
        current = before_next_status(current, seen, asked, unchanged_for)
        current, _ = settled(current, seen)
    current = before_next_status(current, last, None, LONG_AGO)
    expected = implied(current.state, last)
    current, _ = settled(current, last)
    assert current.state == expected


@settings(max_examples=1000)
@given(LOOKS)
def test_each_attempt_completes_or_fails_exactly_once(looks: list[Look]) -> None:
    """An attempt starts when the download is initiated, discovered or resumed."""
    current = row("initiating", asked="initiate")
    ends = 0
    for seen, asked, unchanged_for in looks:
        was_taken_out = current.state in {"removed", "cancelled"}
        current = before_next_status(current, seen, asked, unchanged_for)
        if was_taken_out and current.state == "active":
            ends = 0
        current, emitted = settled(current, seen)
        for event in emitted:
            if isinstance(event, DownloadResumed | DownloadInitiated):
                ends = 0
            ends += isinstance(event, DownloadCompleted | DownloadFailed)
            assert ends <= 1
        if current.state not in {"removed", "cancelled"}:
            assert ends == (current.state in {"completed", "failed"})

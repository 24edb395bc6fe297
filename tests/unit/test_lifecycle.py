"""The lifecycle's table, and its laws."""

import datetime
import typing
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.commands import DownloadState
from schemas.events import (
    DownloadCancelled,
    DownloadCompleted,
    DownloadFailed,
    DownloadInitiated,
    DownloadPaused,
    DownloadRecovered,
    DownloadRemoved,
    DownloadResumed,
    DownloadStalled,
    Event,
)
from schemas.identity import Actor
from schemas.status import DownloadStatus, Phase
from service.downloads.row import MONITOR, Ask, DownloadRow, Transition
from service.monitor import lifecycle
from service.monitor.lifecycle import (
    ASK_LASTS,
    INITIATING_LASTS,
    SETTLES_WITHIN,
    Gone,
    Hold,
    Step,
)

USER = Actor("user", "42")
STALLED_AFTER = 3600
LONG_AGO = 1000.0
NOW = datetime.datetime(2026, 11, 22, 10, tzinfo=datetime.UTC)
STATES: tuple[DownloadState, ...] = typing.get_args(DownloadState)


def row(
    state: DownloadState,
    *,
    asked: Ask | None = None,
    asked_for: float = 0.5,
    unchanged_for: float = LONG_AGO,
) -> DownloadRow:
    return DownloadRow(
        id=UUID(int=1),
        title="Dune",
        state=state,
        client="home",
        client_item="a" * 40,
        protocol="torrent",
        category=None,
        indexer=None,
        media_item_id=None,
        media_title=None,
        size=None,
        save_path=None,
        reason=None,
        error_message=None,
        asked=asked,
        asked_by_type=USER.type if asked else None,
        asked_by_id=USER.id if asked else None,
        asked_correlation_id="request 7" if asked else None,
        asked_at=NOW if asked else None,
        created_at=NOW,
        updated_at=NOW,
        completed_at=None,
        age=LONG_AGO,
        unchanged_for=unchanged_for,
        asked_for=asked_for if asked else None,
    )


def shows(phase: Phase, **more: object) -> DownloadStatus:
    facts = {"client": "home", "item": "a" * 40, "title": "Dune", "phase": phase, **more}
    return msgspec.convert(facts, DownloadStatus)


def next_step(before: DownloadRow, seen: DownloadStatus | Gone) -> Step:
    return lifecycle.next_step(before, seen, STALLED_AFTER)


def told(step: object) -> list[tuple[type[Event], Actor]]:
    assert isinstance(step, Transition), step
    return [(type(said.event), said.actor) for said in step.events if said.event and said.actor]


BUSY = (Phase.QUEUED, Phase.METADATA, Phase.DOWNLOADING)
BETWEEN = (Phase.CHECKING, Phase.MOVING, Phase.PROCESSING, Phase.UNKNOWN)

TABLE: list[tuple[DownloadState, Phase, DownloadState, type[Event]]] = [
    ("active", Phase.PAUSED, "paused", DownloadPaused),
    ("active", Phase.COMPLETED, "completed", DownloadCompleted),
    ("active", Phase.FAILED, "failed", DownloadFailed),
    ("stalled", Phase.PAUSED, "paused", DownloadPaused),
    ("stalled", Phase.COMPLETED, "completed", DownloadCompleted),
    ("stalled", Phase.FAILED, "failed", DownloadFailed),
    *[("paused", phase, "active", DownloadResumed) for phase in BUSY],
    ("paused", Phase.COMPLETED, "completed", DownloadCompleted),
    ("paused", Phase.FAILED, "failed", DownloadFailed),
    *[("failed", phase, "active", DownloadResumed) for phase in BUSY],
    ("failed", Phase.COMPLETED, "completed", DownloadCompleted),
]


@pytest.mark.parametrize(("state", "phase", "target", "event"), TABLE)
def test_what_the_client_shows_is_told_by_the_monitor(
    state: DownloadState, phase: Phase, target: DownloadState, event: type[Event]
) -> None:
    step = next_step(row(state), shows(phase))
    assert told(step) == [(event, MONITOR)]
    assert isinstance(step, Transition)
    assert step.state == target


@pytest.mark.parametrize("state", [s for s in STATES if s not in {"initiating", "stalled"}])
@pytest.mark.parametrize("phase", list(Phase))
def test_everything_else_says_nothing(state: DownloadState, phase: Phase) -> None:
    told_elsewhere = ("completed", Phase.FAILED)
    if (state, phase) not in {told_elsewhere, *((known, shown) for known, shown, _, _ in TABLE)}:
        assert next_step(row(state), shows(phase)) is None


@pytest.mark.parametrize("phase", [Phase.METADATA, Phase.DOWNLOADING])
def test_a_download_without_a_byte_for_long_has_stalled_until_one_comes(phase: Phase) -> None:
    waiting, moving = shows(phase, idle_for=STALLED_AFTER), shows(phase, idle_for=0)
    assert next_step(row("active"), shows(phase, idle_for=STALLED_AFTER - 1)) is None
    stalled = next_step(row("active"), waiting)
    assert told(stalled) == [(DownloadStalled, MONITOR)]
    assert next_step(row("stalled"), waiting) is None
    recovered = next_step(row("stalled"), moving)
    assert told(recovered) == [(DownloadRecovered, MONITOR)]
    assert isinstance(recovered, Transition)
    assert recovered.state == "active"


@pytest.mark.parametrize("phase", [Phase.QUEUED, *BETWEEN])
def test_what_stalled_stays_so_while_no_byte_is_due(phase: Phase) -> None:
    assert next_step(row("stalled"), shows(phase)) is None


BY_RESTART = [
    ("active", Phase.PAUSED, "paused"),
    ("stalled", Phase.PAUSED, "paused"),
    *[("paused", phase, "active") for phase in BUSY],
]


@pytest.mark.parametrize(("state", "phase", "target"), BY_RESTART)
def test_what_a_restart_of_the_client_did_is_written_down_and_not_told(
    state: DownloadState, phase: Phase, target: DownloadState
) -> None:
    step = next_step(row(state), shows(phase, by_restart=True))
    assert told(step) == []
    assert isinstance(step, Transition)
    assert step.state == target
    asked: Ask = "pause" if target == "paused" else "resume"
    assert told(next_step(row(state, asked=asked), shows(phase, by_restart=True)))


def test_a_download_first_seen_after_a_restart_was_initiated_all_the_same() -> None:
    step = next_step(row("initiating", asked="initiate"), shows(Phase.PAUSED, by_restart=True))
    assert told(step) == [(DownloadInitiated, USER)]
    assert isinstance(step, Transition)
    assert step.state == "paused"


def test_a_failed_download_that_a_restart_tries_again_has_resumed() -> None:
    step = next_step(row("failed"), shows(Phase.DOWNLOADING, by_restart=True))
    assert told(step) == [(DownloadResumed, MONITOR)]


def test_trouble_after_completion_is_written_down_until_all_is_well_and_not_told() -> None:
    missing = shows(Phase.FAILED, reason="missing_files", message="No data found")
    step = next_step(row("completed"), missing)
    assert told(step) == []
    assert isinstance(step, Transition)
    assert (step.state, step.reason, step.error_message) == (
        "completed",
        "missing_files",
        "No data found",
    )
    troubled = msgspec.structs.replace(row("completed"), reason="missing_files")
    for seen in (missing, shows(Phase.DOWNLOADING), shows(Phase.PAUSED)):
        assert next_step(troubled, seen) is None
    well = next_step(troubled, shows(Phase.COMPLETED))
    assert told(well) == []
    assert isinstance(well, Transition)
    assert (well.state, well.reason) == ("completed", None)


@pytest.mark.parametrize(
    ("state", "asked", "phase", "event"),
    [
        ("active", "pause", Phase.PAUSED, DownloadPaused),
        ("paused", "resume", Phase.DOWNLOADING, DownloadResumed),
    ],
)
def test_what_was_asked_for_is_told_in_the_asker_s_name(
    state: DownloadState, asked: Ask, phase: Phase, event: type[Event]
) -> None:
    at_once = row(state, asked=asked, unchanged_for=0.1)
    assert told(next_step(at_once, shows(phase))) == [(event, USER)]
    too_late = row(state, asked=asked, asked_for=ASK_LASTS + 1)
    assert told(next_step(too_late, shows(phase))) == [(event, MONITOR)]


@pytest.mark.parametrize(
    ("state", "seen"),
    [
        ("active", shows(Phase.PAUSED)),
        ("paused", shows(Phase.DOWNLOADING)),
        ("failed", shows(Phase.DOWNLOADING)),
        ("active", Gone()),
    ],
)
def test_a_turn_back_right_after_a_step_waits_until_the_client_has_settled(
    state: DownloadState, seen: DownloadStatus | Gone
) -> None:
    assert next_step(row(state, unchanged_for=1.0), seen) == Hold(SETTLES_WITHIN - 1.0)
    assert isinstance(next_step(row(state, unchanged_for=SETTLES_WITHIN), seen), Transition)


def test_a_download_that_appears_was_initiated_by_who_asked_for_it() -> None:
    step = next_step(row("initiating", asked="initiate"), shows(Phase.METADATA))
    assert told(step) == [(DownloadInitiated, USER)]
    assert isinstance(step, Transition)
    assert step.state == "active"


@pytest.mark.parametrize(
    ("phase", "event", "state"),
    [
        (Phase.COMPLETED, DownloadCompleted, "completed"),
        (Phase.FAILED, DownloadFailed, "failed"),
    ],
)
def test_a_download_that_appears_at_its_end_was_initiated_first(
    phase: Phase, event: type[Event], state: DownloadState
) -> None:
    step = next_step(row("initiating", asked="initiate"), shows(phase))
    assert told(step) == [(DownloadInitiated, USER), (event, MONITOR)]
    assert isinstance(step, Transition)
    assert step.state == state


@pytest.mark.parametrize("state", ["active", "paused", "stalled", "completed", "failed"])
def test_what_is_gone_was_removed_unless_somebody_cancelled_it(state: DownloadState) -> None:
    last = shows(Phase.DOWNLOADING, progress=0.25)
    removed = next_step(row(state), Gone(last))
    assert told(removed) == [(DownloadRemoved, MONITOR)]
    assert isinstance(removed, Transition)
    event = removed.events[0].event
    assert isinstance(event, DownloadRemoved)
    assert event.progress == 0.25
    for asked, with_files in (("cancel", False), ("cancel_with_files", True)):
        step = next_step(row(state, asked=typing.cast(Ask, asked)), Gone(last))
        assert told(step) == [(DownloadCancelled, USER)]
        assert isinstance(step, Transition)
        cancelled = step.events[0].event
        assert isinstance(cancelled, DownloadCancelled)
        assert cancelled.files_deleted is with_files


@pytest.mark.parametrize("state", ["removed", "cancelled"])
def test_what_was_taken_out_and_is_there_again_is_a_stranger_once_that_has_settled(
    state: DownloadState,
) -> None:
    just_now, long_ago = row(state, unchanged_for=1.0), row(state)
    assert next_step(just_now, shows(Phase.DOWNLOADING)) == Hold(SETTLES_WITHIN - 1.0)
    assert not lifecycle.is_stranger(just_now)
    assert lifecycle.is_stranger(long_ago)
    assert lifecycle.is_stranger(None)
    assert not lifecycle.is_stranger(row("completed"))


def test_a_row_of_the_future_is_an_old_one() -> None:
    """PostgreSQL's clock was set back by an hour since."""
    future = -3600.0
    assert told(next_step(row("active", unchanged_for=future), shows(Phase.PAUSED))) == [
        (DownloadPaused, MONITOR)
    ]
    assert told(next_step(row("active", unchanged_for=future), Gone())) == [
        (DownloadRemoved, MONITOR)
    ]
    assert lifecycle.is_stranger(row("removed", unchanged_for=future))


@pytest.mark.parametrize("state", ["removed", "cancelled"])
def test_what_is_gone_already_stays_so(state: DownloadState) -> None:
    assert next_step(row(state), Gone()) is None


def test_a_download_that_was_never_handed_over_fails_after_a_while() -> None:
    early = row("initiating", asked="initiate", asked_for=INITIATING_LASTS - 1)
    late = row("initiating", asked="initiate", asked_for=INITIATING_LASTS + 1)
    assert next_step(early, Gone()) is None
    step = next_step(late, Gone())
    assert told(step) == [(DownloadFailed, USER)]
    assert isinstance(step, Transition)
    assert (step.state, step.reason) == ("failed", "client_error")


def test_a_failure_carries_the_client_s_own_words() -> None:
    seen = shows(Phase.FAILED, reason="disk_full", message="No space left on device", size=7)
    step = next_step(row("active"), seen)
    assert isinstance(step, Transition)
    event = step.events[0].event
    assert isinstance(event, DownloadFailed)
    assert (event.reason, event.error_message) == ("disk_full", "No space left on device")
    assert (event.size, step.reason, step.size) == (7, "disk_full", 7)
    wordless = next_step(row("active"), shows(Phase.FAILED, client_state="error"))
    assert isinstance(wordless, Transition)
    assert wordless.error_message == "home says error"


ANYTHING = st.one_of(
    st.builds(
        shows,
        st.sampled_from(Phase),
        idle_for=st.sampled_from([0, STALLED_AFTER]),
        by_restart=st.booleans(),
    ),
    st.just(Gone()),
)
ROWS = st.builds(
    row,
    st.sampled_from(STATES),
    asked=st.sampled_from([None, "pause", "resume", "cancel", "cancel_with_files"]),
    unchanged_for=st.sampled_from([0.0, 1.0, LONG_AGO]),
)


@pytest.mark.parametrize(
    ("asked", "correlation"), [("pause", "request 7"), ("resume", None), (None, None)]
)
def test_what_was_asked_for_carries_the_correlation_of_its_request(
    asked: Ask | None, correlation: str | None
) -> None:
    step = next_step(row("active", asked=asked), shows(Phase.PAUSED))
    assert isinstance(step, Transition)
    assert [event.correlation_id for event in step.events] == [correlation]


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


@given(ROWS, ANYTHING)
def test_the_same_status_again_and_again_says_nothing_twice(
    before: DownloadRow, seen: DownloadStatus | Gone
) -> None:
    current, said = before, []
    while isinstance(step := next_step(current, seen), Transition):
        said += [event.type for event in step.events]
        current = stepped(current, step)
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
    steps, current = 0, before
    while isinstance(step := next_step(current, seen), Transition):
        current, steps = stepped(current, step), steps + 1
        assert steps <= 2


@given(st.lists(ANYTHING, max_size=30))
def test_an_attempt_ends_once(sequence: list[DownloadStatus | Gone]) -> None:
    """Between two ends there is always a new beginning."""
    current = row("initiating", asked="initiate")
    ended = False
    for seen in sequence:
        step = next_step(current, seen)
        if not isinstance(step, Transition):
            continue
        for said in step.events:
            if isinstance(said.event, DownloadResumed | DownloadInitiated):
                ended = False
            if isinstance(said.event, DownloadCompleted | DownloadFailed):
                is_late_success = current.state == "failed"
                assert not ended or is_late_success
                ended = True
        current = stepped(current, step)

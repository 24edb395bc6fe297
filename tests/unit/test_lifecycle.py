"""The transition table of the lifecycle: state and phase -> event."""

import typing

import msgspec
import pytest

from mediabus.schemas.events import (
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
from mediabus.schemas.identity import Actor
from mediabus.schemas.operations.requests import DownloadState
from mediabus.schemas.status import DownloadStatus, Phase
from mediabus.service.downloads.row import MONITOR, Ask, Transition
from mediabus.service.monitor.follow import lifecycle
from mediabus.service.monitor.follow.lifecycle import (
    ASK_LASTS,
    INITIATING_LASTS,
    SETTLES_WITHIN,
    Gone,
    Hold,
)
from tests.support.lives import (
    BETWEEN,
    BUSY,
    STALLED_AFTER,
    STATES,
    USER,
    next_step,
    row,
    shows,
    told,
)

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
]


@pytest.mark.parametrize(("state", "phase", "target", "event"), TABLE)
def test_client_status_emits_event_of_the_monitor(
    state: DownloadState, phase: Phase, target: DownloadState, event: type[Event]
) -> None:
    step = next_step(row(state), shows(phase))
    assert told(step) == [(event, MONITOR)]
    assert isinstance(step, Transition)
    assert step.state == target


@pytest.mark.parametrize("state", [s for s in STATES if s not in {"initiating", "stalled"}])
@pytest.mark.parametrize("phase", list(Phase))
def test_every_other_status_emits_no_event(state: DownloadState, phase: Phase) -> None:
    told_elsewhere = {("completed", Phase.FAILED), ("failed", Phase.COMPLETED)}
    if (state, phase) not in {*told_elsewhere, *((known, shown) for known, shown, _, _ in TABLE)}:
        assert next_step(row(state), shows(phase)) is None


@pytest.mark.parametrize("phase", [Phase.METADATA, Phase.DOWNLOADING])
def test_download_without_bytes_stalls_until_a_byte_arrives(phase: Phase) -> None:
    waiting, moving = shows(phase, idle_for=STALLED_AFTER), shows(phase, moved=True)
    assert next_step(row("active"), shows(phase, idle_for=STALLED_AFTER - 1)) is None
    stalled = next_step(row("active"), waiting)
    assert told(stalled) == [(DownloadStalled, MONITOR)]
    assert next_step(row("stalled"), waiting) is None
    assert next_step(row("stalled"), shows(phase)) is None, "no byte was seen"
    recovered = next_step(row("stalled"), moving)
    assert told(recovered) == [(DownloadRecovered, MONITOR)]
    assert isinstance(recovered, Transition)
    assert recovered.state == "active"


@pytest.mark.parametrize("phase", [Phase.QUEUED, *BETWEEN])
def test_stalled_download_stays_stalled_without_bytes(phase: Phase) -> None:
    assert next_step(row("stalled"), shows(phase)) is None


BY_RESTART = [
    ("active", Phase.PAUSED, "paused"),
    ("stalled", Phase.PAUSED, "paused"),
    *[("paused", phase, "active") for phase in BUSY],
]


@pytest.mark.parametrize(("state", "phase", "target"), BY_RESTART)
def test_change_by_client_restart_is_stored_without_event(
    state: DownloadState, phase: Phase, target: DownloadState
) -> None:
    step = next_step(row(state), shows(phase, by_restart=True))
    assert told(step) == []
    assert isinstance(step, Transition)
    assert step.state == target
    asked: Ask = "pause" if target == "paused" else "resume"
    assert told(next_step(row(state, asked=asked), shows(phase, by_restart=True)))


def test_download_first_seen_after_restart_is_initiated() -> None:
    step = next_step(row("initiating", asked="initiate"), shows(Phase.PAUSED, by_restart=True))
    assert told(step) == [(DownloadInitiated, USER)]
    assert isinstance(step, Transition)
    assert step.state == "paused"


def test_failed_download_retried_by_restart_resumes() -> None:
    step = next_step(row("failed"), shows(Phase.DOWNLOADING, by_restart=True))
    assert told(step) == [(DownloadResumed, MONITOR)]


@pytest.mark.parametrize(("asked", "by"), [(None, MONITOR), ("resume", USER)])
def test_failed_download_that_completes_resumes_first(asked: Ask | None, by: Actor) -> None:
    step = next_step(row("failed", asked=asked), shows(Phase.COMPLETED))
    assert told(step) == [(DownloadResumed, by), (DownloadCompleted, MONITOR)]
    assert isinstance(step, Transition)
    assert step.state == "completed"


def test_failure_after_completion_is_stored_without_event() -> None:
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
def test_requested_change_is_attributed_to_the_requester(
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
def test_reverse_transition_waits_until_the_state_is_stable(
    state: DownloadState, seen: DownloadStatus | Gone
) -> None:
    assert next_step(row(state, unchanged_for=1.0), seen) == Hold(SETTLES_WITHIN - 1.0)
    assert isinstance(next_step(row(state, unchanged_for=SETTLES_WITHIN), seen), Transition)


def test_listed_download_is_initiated_by_the_requester() -> None:
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
def test_download_first_listed_as_finished_is_initiated_first(
    phase: Phase, event: type[Event], state: DownloadState
) -> None:
    step = next_step(row("initiating", asked="initiate"), shows(phase))
    assert told(step) == [(DownloadInitiated, USER), (event, MONITOR)]
    assert isinstance(step, Transition)
    assert step.state == state


@pytest.mark.parametrize("state", ["active", "paused", "stalled", "completed", "failed"])
def test_missing_download_is_removed_unless_cancelled(state: DownloadState) -> None:
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
def test_removed_download_listed_again_is_untracked_later(
    state: DownloadState,
) -> None:
    just_now, long_ago = row(state, unchanged_for=1.0), row(state)
    assert next_step(just_now, shows(Phase.DOWNLOADING)) == Hold(SETTLES_WITHIN - 1.0)
    assert not lifecycle.is_untracked(just_now)
    assert lifecycle.is_untracked(long_ago)
    assert lifecycle.is_untracked(None)
    assert not lifecycle.is_untracked(row("completed"))


def test_row_changed_in_the_future_counts_as_old() -> None:
    """PostgreSQL's clock was set back by an hour after the change."""
    future = -3600.0
    assert told(next_step(row("active", unchanged_for=future), shows(Phase.PAUSED))) == [
        (DownloadPaused, MONITOR)
    ]
    assert told(next_step(row("active", unchanged_for=future), Gone())) == [
        (DownloadRemoved, MONITOR)
    ]
    assert lifecycle.is_untracked(row("removed", unchanged_for=future))


@pytest.mark.parametrize("state", ["removed", "cancelled"])
def test_removed_download_stays_removed(state: DownloadState) -> None:
    assert next_step(row(state), Gone()) is None


def test_download_never_handed_over_fails_after_timeout() -> None:
    early = row("initiating", asked="initiate", asked_for=INITIATING_LASTS - 1)
    late = row("initiating", asked="initiate", asked_for=INITIATING_LASTS + 1)
    assert next_step(early, Gone()) is None
    step = next_step(late, Gone())
    assert told(step) == [(DownloadFailed, USER)]
    assert isinstance(step, Transition)
    assert (step.state, step.reason) == ("failed", "client_error")


def test_failure_has_the_message_of_the_client() -> None:
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


@pytest.mark.parametrize(
    ("asked", "correlation"), [("pause", "request 7"), ("resume", None), (None, None)]
)
def test_requested_change_has_correlation_of_its_request(
    asked: Ask | None, correlation: str | None
) -> None:
    step = next_step(row("active", asked=asked), shows(Phase.PAUSED))
    assert isinstance(step, Transition)
    assert [event.correlation_id for event in step.events] == [correlation]

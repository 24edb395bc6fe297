"""The lifecycle of a download as a pure function: its row and its status in the client -> a step.

The rules are level-triggered: they compare the state of the row with the current status. A change
that was missed is caught up with the next status, and a repeated status emits no event.
"""

import dataclasses
from typing import Final, assert_never

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
)
from mediabus.schemas.identity import Actor
from mediabus.schemas.status import TRANSFERRING, DownloadStatus, FailureReason, Phase
from mediabus.service.downloads.row import MONITOR, Ask, DownloadRow, Transition

SETTLES_WITHIN: Final = 5.0
"""Seconds after a transition in which a client may still report the previous state. qBittorrent
refreshes its list every 1.5 s, and a poll may have been in progress."""

ASK_LASTS: Final = 60.0
"""Seconds in which a change in the client counts as the result of a request."""

INITIATING_LASTS: Final = 120.0
"""Seconds after which a download that its client never listed was not handed over."""


@dataclasses.dataclass(frozen=True)
class Gone:
    """The client no longer lists the download; ``last`` is its last known status."""

    last: DownloadStatus | None = None


@dataclasses.dataclass(frozen=True)
class Hold:
    """Too early to decide: check again in ``seconds``."""

    seconds: float


Step = Transition | Hold | None
"""The next step; None if the row and the client agree."""


def is_untracked(row: DownloadRow | None) -> bool:
    """Return whether an item in a client belongs to no download of mediabus.

    An item that was removed or cancelled, and is still listed after ``SETTLES_WITHIN``, was added
    again outside mediabus.
    """
    if row is None:
        return True
    return row.state in {"removed", "cancelled"} and _hold(row) is None


def next_step(row: DownloadRow, seen: DownloadStatus | Gone, stalled_after: float) -> Step:
    """Return the step that follows from the client's status.

    ``stalled_after`` is in seconds without a byte.
    """
    if isinstance(seen, Gone):
        return _gone(row, seen)
    match row.state:
        case "initiating":
            return _appeared(row, seen)
        case "active" | "stalled":
            return _stalled_or_recovered(row, seen, stalled_after) or _while_active(row, seen)
        case "paused":
            return _while_paused(row, seen)
        case "failed":
            return _after_failure(row, seen)
        case "completed" | "removed" | "cancelled":
            return _after_completion(row, seen) if row.state == "completed" else _hold(row)
        case _:
            assert_never(row.state)


def _appeared(row: DownloadRow, seen: DownloadStatus) -> Transition:
    """Complete an initiation whose operation is slower than the monitor, or was interrupted."""
    event = DownloadInitiated(**row.facts(size=seen.size))
    initiated = row.fact(event, row.asked_by or MONITOR)
    match _while_active(row, seen):
        case Transition() as further:
            return dataclasses.replace(further, events=(initiated, *further.events))
        case _:
            return Transition("active", (initiated,), size=seen.size)


def _while_active(row: DownloadRow, seen: DownloadStatus) -> Step:
    match seen.phase:
        case Phase.PAUSED:
            asker = _asker(row, "pause") or _client_itself(row, seen)
            message = seen.message if seen.by_client else None
            event = DownloadPaused(
                **row.facts(size=seen.size), progress=seen.progress, message=message
            )
            if seen.by_restart and not asker:
                return Transition("paused", (), size=seen.size)
            step = Transition("paused", (row.fact(event, asker or MONITOR),), size=seen.size)
            return step if asker else _hold(row) or step
        case Phase.COMPLETED:
            return _completed(row, seen)
        case Phase.FAILED:
            return _failed(row, seen)
        case (
            Phase.QUEUED
            | Phase.METADATA
            | Phase.DOWNLOADING
            | Phase.CHECKING
            | Phase.MOVING
            | Phase.PROCESSING
            | Phase.UNKNOWN
        ):
            return None
        case _:
            assert_never(seen.phase)


def _stalled_or_recovered(
    row: DownloadRow, seen: DownloadStatus, stalled_after: float
) -> Transition | None:
    has_stalled = seen.idle_for >= stalled_after
    if seen.phase not in TRANSFERRING or has_stalled == (row.state == "stalled"):
        return None
    if has_stalled:
        stalled = DownloadStalled(**row.facts(size=seen.size), progress=seen.progress)
        return Transition("stalled", (row.fact(stalled, MONITOR),), size=seen.size)
    if not seen.moved:  # the clock may have started only a short time ago
        return None
    recovered = DownloadRecovered(**row.facts(size=seen.size))
    return Transition("active", (row.fact(recovered, MONITOR),), size=seen.size)


def _while_paused(row: DownloadRow, seen: DownloadStatus) -> Step:
    match seen.phase:
        case Phase.QUEUED | Phase.METADATA | Phase.DOWNLOADING:
            return _resumed(row, seen)
        case Phase.COMPLETED:
            return _completed(row, seen)
        case Phase.FAILED:
            return _failed(row, seen)
        case Phase.PAUSED | Phase.CHECKING | Phase.MOVING | Phase.PROCESSING | Phase.UNKNOWN:
            return None
        case _:
            assert_never(seen.phase)


def _after_failure(row: DownloadRow, seen: DownloadStatus) -> Step:
    match seen.phase:
        case Phase.QUEUED | Phase.METADATA | Phase.DOWNLOADING:
            return _resumed(row, seen)
        case Phase.COMPLETED:
            return _completed_after_all(row, seen)
        case (
            Phase.FAILED
            | Phase.PAUSED
            | Phase.CHECKING
            | Phase.MOVING
            | Phase.PROCESSING
            | Phase.UNKNOWN
        ):
            return None
        case _:
            assert_never(seen.phase)


def _after_completion(row: DownloadRow, seen: DownloadStatus) -> Transition | None:
    """Keep a completed download completed.

    A later failure, such as missing files, is stored in the row until the client reports the
    download as completed again. It emits no event.
    """
    if seen.phase is Phase.FAILED and row.reason is None:
        reason, message = _failure(row, seen)
        return Transition("completed", (), reason=reason, error_message=message)
    if seen.phase is Phase.COMPLETED and row.reason is not None:
        return Transition("completed", ())
    return None


def _gone(row: DownloadRow, seen: Gone) -> Step:
    progress = seen.last.progress if seen.last else None
    match row.state:
        case "initiating":
            return _never_handed_over(row)
        case "active" | "paused" | "stalled" | "completed" | "failed":
            canceller = _asker(row, "cancel") or _asker(row, "cancel_with_files")
            if canceller:
                with_files = row.asked == "cancel_with_files"
                cancelled = DownloadCancelled(
                    **row.facts(), progress=progress, files_deleted=with_files
                )
                return Transition("cancelled", (row.fact(cancelled, canceller),))
            removed = DownloadRemoved(**row.facts(), progress=progress)
            return _hold(row) or Transition("removed", (row.fact(removed, MONITOR),))
        case "removed" | "cancelled":
            return None
        case _:
            assert_never(row.state)


def _never_handed_over(row: DownloadRow) -> Transition | None:
    if row.asked_for is None or row.asked_for < INITIATING_LASTS:
        return None  # the operation is still running
    message = f"mediabus was stopped before {row.client} had the download: initiate it again"
    event = DownloadFailed(**row.facts(), reason="client_error", error_message=message)
    failed = row.fact(event, row.asked_by or MONITOR)
    return Transition(
        "failed", (failed,), reason="client_error", error_message=message, given_up=True
    )


def _resumed(row: DownloadRow, seen: DownloadStatus) -> Transition | Hold:
    event = DownloadResumed(**row.facts(size=seen.size))
    asker = _asker(row, "resume")
    if seen.by_restart and not asker and row.state == "paused":
        return Transition("active", (), size=seen.size)
    step = Transition("active", (row.fact(event, asker or MONITOR),), size=seen.size)
    return step if asker else _hold(row) or step


def _completed(row: DownloadRow, seen: DownloadStatus) -> Transition:
    event = DownloadCompleted(
        **row.facts(size=seen.size),
        duration=row.age,
        save_path=seen.save_path,
        warning=seen.warning,
    )
    completed = row.fact(event, MONITOR)
    return Transition("completed", (completed,), size=seen.size, save_path=seen.save_path)


def _completed_after_all(row: DownloadRow, seen: DownloadStatus) -> Transition:
    """Complete a failed download that was retried between two polls: it resumed first."""
    resumed = DownloadResumed(**row.facts(size=seen.size))
    completed = _completed(row, seen)
    fact = row.fact(resumed, _asker(row, "resume") or MONITOR)
    return dataclasses.replace(completed, events=(fact, *completed.events))


def _failed(row: DownloadRow, seen: DownloadStatus) -> Transition:
    """Fail a download. If an application has reported that already, there is no second event."""
    reason, message = _failure(row, seen)
    event = DownloadFailed(**row.facts(size=seen.size), reason=reason, error_message=message)
    failed = () if row.failed_at else (row.fact(event, MONITOR),)
    return Transition("failed", failed, size=seen.size, reason=reason, error_message=message)


def _failure(row: DownloadRow, seen: DownloadStatus) -> tuple[FailureReason, str]:
    message = seen.message or f"{row.client} says {seen.client_state or 'failed'}"
    return seen.reason or "client_error", message


def _asker(row: DownloadRow, what: Ask) -> Actor | None:
    """Return who requested the change, unless that was too long ago to be the cause."""
    if row.asked != what or row.asked_for is None or row.asked_for > ASK_LASTS:
        return None
    return row.asked_by


def _client_itself(row: DownloadRow, seen: DownloadStatus) -> Actor | None:
    """Return the client as the actor if it reports that it paused the download itself."""
    return Actor("system", row.client) if seen.by_client and not seen.by_restart else None


def _hold(row: DownloadRow) -> Hold | None:
    seconds = SETTLES_WITHIN - row.unchanged_for
    # A longer hold means that the database's clock was set back since the row changed.
    return Hold(seconds) if 0 < seconds <= 2 * SETTLES_WITHIN else None

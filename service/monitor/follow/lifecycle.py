"""The life of a download as a pure function: its row and what its client shows -> the next step.

The rule is level-triggered: it compares where the row is with what the client shows now, so what
nobody watched is made up for when somebody looks again, and the same status twice says nothing.
"""

import dataclasses
from typing import Final, assert_never

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
)
from schemas.identity import Actor
from schemas.status import DownloadStatus, FailureReason, Phase
from service.downloads.row import MONITOR, Ask, DownloadRow, Transition

SETTLES_WITHIN: Final = 5.0
"""Seconds after a step in which a client may still show the state before it. qBittorrent refreshes
what it shows every 1.5 s, and a poll may have been under way."""

ASK_LASTS: Final = 60.0
"""Seconds in which what the client shows counts as the answer to what was asked."""

INITIATING_LASTS: Final = 120.0
"""Seconds after which a download that its client never listed was not handed over at all."""


WAITING: Final = frozenset({Phase.METADATA, Phase.DOWNLOADING})
"""The phases in which bytes are due."""


@dataclasses.dataclass(frozen=True)
class Gone:
    """The client no longer has the download; ``last`` is what it showed before, if known."""

    last: DownloadStatus | None = None


@dataclasses.dataclass(frozen=True)
class Hold:
    """Too early to tell: look again in ``seconds``."""

    seconds: float


Step = Transition | Hold | None
"""What follows; None where row and client agree."""


def is_stranger(row: DownloadRow | None) -> bool:
    """Whether what a client shows is none of the downloads that mediabus knows: what was removed
    or cancelled, and is there long afterwards, was added again."""
    if row is None:
        return True
    return row.state in {"removed", "cancelled"} and _hold(row) is None


def next_step(row: DownloadRow, seen: DownloadStatus | Gone, stalled_after: float) -> Step:
    """The step that what was seen leads to. ``stalled_after`` in seconds without a byte."""
    if isinstance(seen, Gone):
        return _gone(row, seen)
    match row.state:
        case "initiating":
            return _appeared(row, seen)
        case "active" | "stalled":
            return _bytes_came_or_not(row, seen, stalled_after) or _while_active(row, seen)
        case "paused":
            return _while_paused(row, seen)
        case "failed":
            return _after_failure(row, seen)
        case "completed" | "removed" | "cancelled":
            return _after_completion(row, seen) if row.state == "completed" else _hold(row)
        case _:
            assert_never(row.state)


def _appeared(row: DownloadRow, seen: DownloadStatus) -> Transition:
    """The client lists what was to be initiated: the operation says so soon, or was cut off."""
    said = DownloadInitiated(**row.facts(size=seen.size))
    initiated = row.says(said, row.asked_by or MONITOR)
    match _while_active(row, seen):
        case Transition() as further:
            return dataclasses.replace(further, events=(initiated, *further.events))
        case _:
            return Transition("active", (initiated,), size=seen.size)


def _while_active(row: DownloadRow, seen: DownloadStatus) -> Step:
    match seen.phase:
        case Phase.PAUSED:
            event = DownloadPaused(**row.facts(size=seen.size), progress=seen.progress)
            asker = _asker(row, "pause")
            if seen.by_restart and not asker:
                return Transition("paused", (), size=seen.size)
            step = Transition("paused", (row.says(event, asker or MONITOR),), size=seen.size)
            return step if asker else _unless_unsettled(row, step)
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


def _bytes_came_or_not(
    row: DownloadRow, seen: DownloadStatus, stalled_after: float
) -> Transition | None:
    has_stalled = seen.idle_for >= stalled_after
    if seen.phase not in WAITING or has_stalled == (row.state == "stalled"):
        return None
    if has_stalled:
        stalled = DownloadStalled(**row.facts(size=seen.size), progress=seen.progress)
        return Transition("stalled", (row.says(stalled, MONITOR),), size=seen.size)
    recovered = DownloadRecovered(**row.facts(size=seen.size))
    return Transition("active", (row.says(recovered, MONITOR),), size=seen.size)


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
    """It stays completed. That its client has trouble with it since, as when its files are missing,
    is written down until all is well again, and nothing is told."""
    if seen.phase is Phase.FAILED and row.reason is None:
        reason, words = _trouble(row, seen)
        return Transition("completed", (), reason=reason, error_message=words)
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
                return Transition("cancelled", (row.says(cancelled, canceller),))
            removed = DownloadRemoved(**row.facts(), progress=progress)
            return _unless_unsettled(row, Transition("removed", (row.says(removed, MONITOR),)))
        case "removed" | "cancelled":
            return None
        case _:
            assert_never(row.state)


def _never_handed_over(row: DownloadRow) -> Transition | None:
    if row.asked_for is None or row.asked_for < INITIATING_LASTS:
        return None  # the operation is still at it
    event = DownloadFailed(**row.facts(), reason="client_error", error_message=row.given_up)
    told = row.says(event, row.asked_by or MONITOR)
    return Transition("failed", (told,), reason="client_error", error_message=row.given_up)


def _resumed(row: DownloadRow, seen: DownloadStatus) -> Transition | Hold:
    event = DownloadResumed(**row.facts(size=seen.size))
    asker = _asker(row, "resume")
    if seen.by_restart and not asker and row.state == "paused":
        return Transition("active", (), size=seen.size)
    step = Transition("active", (row.says(event, asker or MONITOR),), size=seen.size)
    return step if asker else _unless_unsettled(row, step)


def _completed(row: DownloadRow, seen: DownloadStatus) -> Transition:
    event = DownloadCompleted(
        **row.facts(size=seen.size),
        duration=row.age,
        save_path=seen.save_path,
        warning=seen.warning,
    )
    told = row.says(event, MONITOR)
    return Transition("completed", (told,), size=seen.size, save_path=seen.save_path)


def _completed_after_all(row: DownloadRow, seen: DownloadStatus) -> Transition:
    """What had failed went on between two looks: an attempt of its own, which ends at once."""
    resumed = DownloadResumed(**row.facts(size=seen.size))
    completed = _completed(row, seen)
    told = row.says(resumed, _asker(row, "resume") or MONITOR)
    return dataclasses.replace(completed, events=(told, *completed.events))


def _failed(row: DownloadRow, seen: DownloadStatus) -> Transition:
    reason, words = _trouble(row, seen)
    event = DownloadFailed(**row.facts(size=seen.size), reason=reason, error_message=words)
    told = row.says(event, MONITOR)
    return Transition("failed", (told,), size=seen.size, reason=reason, error_message=words)


def _trouble(row: DownloadRow, seen: DownloadStatus) -> tuple[FailureReason, str]:
    words = seen.message or f"{row.client} says {seen.client_state or 'failed'}"
    return seen.reason or "client_error", words


def _asker(row: DownloadRow, what: Ask) -> Actor | None:
    """Who asked for what now shows, unless that was too long ago to be the cause."""
    if row.asked != what or row.asked_for is None or row.asked_for > ASK_LASTS:
        return None
    return row.asked_by


def _unless_unsettled(row: DownloadRow, step: Transition) -> Transition | Hold:
    return _hold(row) or step


def _hold(row: DownloadRow) -> Hold | None:
    left = SETTLES_WITHIN - row.unchanged_for
    # Were it more, the database's clock would have been set back since the row changed.
    return Hold(left) if 0 < left <= 2 * SETTLES_WITHIN else None

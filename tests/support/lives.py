"""Rows and statuses of one download, to ask the lifecycle what follows."""

import datetime
import typing
from uuid import UUID

import msgspec

from mediabus.schemas.events import Event
from mediabus.schemas.identity import Actor
from mediabus.schemas.operations.requests import DownloadState
from mediabus.schemas.status import DownloadStatus, Phase
from mediabus.service.downloads.row import Ask, DownloadRow, Transition
from mediabus.service.monitor.follow import lifecycle
from mediabus.service.monitor.follow.lifecycle import Gone, Step

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
    return [(type(fact.event), fact.actor) for fact in step.events]


BUSY = (Phase.QUEUED, Phase.METADATA, Phase.DOWNLOADING)
BETWEEN = (Phase.CHECKING, Phase.MOVING, Phase.PROCESSING, Phase.UNKNOWN)

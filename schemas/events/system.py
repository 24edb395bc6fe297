"""What scheduled jobs report."""

from typing import ClassVar

from schemas.events.base import Category, Event, Severity


class _JobEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    """``duration_ms`` in milliseconds."""

    category: ClassVar[Category] = "system"

    job_name: str
    duration_ms: float | None = None
    items_processed: int | None = None


class JobExecuted(_JobEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A scheduled job ran to its end."""

    type = "job.executed"


class JobFailed(_JobEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A scheduled job gave up."""

    type = "job.failed"
    severity: ClassVar[Severity] = "error"

    error_message: str | None = None


SystemEvent = JobExecuted | JobFailed

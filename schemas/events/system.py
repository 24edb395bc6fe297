"""Events that scheduled jobs report."""

from typing import ClassVar

from mediabus.schemas.events.base import Category, Event, Icon, Severity


class _JobEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A run of a job; ``duration_ms`` is in milliseconds."""

    category: ClassVar[Category] = "system"

    job_name: str
    duration_ms: float | None = None
    items_processed: int | None = None


class JobExecuted(_JobEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A scheduled job finished successfully."""

    type = "job.executed"
    icon: ClassVar[Icon] = "check"
    sentence: ClassVar[str] = (
        "Job {job_name} finished[ in {duration_ms}][, {items_processed} items]"
    )


class JobFailed(_JobEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A scheduled job failed."""

    type = "job.failed"
    severity: ClassVar[Severity] = "error"
    icon: ClassVar[Icon] = "cross"
    sentence: ClassVar[str] = "Job {job_name} failed[: {error_message}]"

    error_message: str | None = None


SystemEvent = JobExecuted | JobFailed

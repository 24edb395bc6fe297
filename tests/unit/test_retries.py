"""A download that its client retries under a new id keeps its row."""

import dataclasses
from collections.abc import Mapping

from mediabus.schemas.status import ClientName, DownloadStatus, ItemId, Phase
from mediabus.service.monitor.follow.retries import TOGETHER, Retries

OLD, NEW, THIRD = ItemId("old"), ItemId("new"), ItemId("third")


def status(
    item: ItemId, phase: Phase, title: str = "It", aliases: tuple[ItemId, ...] = ()
) -> DownloadStatus:
    return DownloadStatus(
        client=ClientName("sab"), item=item, title=title, phase=phase, aliases=aliases
    )


FAILED = status(OLD, Phase.FAILED)
QUEUED = status(NEW, Phase.QUEUED)


@dataclasses.dataclass
class Watched:
    """A client that is polled."""

    retries: Retries = dataclasses.field(default_factory=Retries)
    now: float = 1000.0

    def poll(self, *shown: DownloadStatus, after: float = 2.0) -> Mapping[str, tuple[str, ...]]:
        self.now += after
        return {it.item: it.aliases for it in self.retries.update(shown, self.now)}


def test_failed_entry_becomes_alias_of_its_replacement() -> None:
    watched = Watched()
    assert watched.poll(FAILED) == {}

    assert watched.poll(QUEUED) == {NEW: (OLD,)}
    assert watched.poll(status(NEW, Phase.COMPLETED)) == {NEW: (OLD,)}


def test_old_and_new_entry_may_overlap_or_leave_a_gap() -> None:
    for between in [(FAILED, QUEUED)], [()], [(), ()]:
        watched = Watched()
        watched.poll(FAILED)
        for shown in between:
            assert watched.poll(*shown) == {}
        assert watched.poll(QUEUED) == {NEW: (OLD,)}


def test_failed_entry_in_the_bucket_is_known() -> None:
    watched = Watched()
    watched.retries.start_with([FAILED], watched.now)

    assert watched.poll(QUEUED) == {NEW: (OLD,)}


def test_aliases_in_the_bucket_are_kept() -> None:
    watched = Watched()
    watched.retries.start_with([status(NEW, Phase.QUEUED, aliases=(OLD,))], watched.now)

    assert watched.poll(QUEUED) == {NEW: (OLD,)}


def test_failed_retry_can_be_retried() -> None:
    watched = Watched()
    watched.poll(FAILED)
    watched.poll(QUEUED)
    assert watched.poll(status(NEW, Phase.FAILED)) == {NEW: (OLD,)}

    assert watched.poll(status(THIRD, Phase.QUEUED)) == {THIRD: (NEW,)}


def test_other_title_is_another_download() -> None:
    watched = Watched()
    watched.poll(FAILED)

    assert watched.poll(status(NEW, Phase.QUEUED, title="Another")) == {}


def test_older_entry_is_another_download() -> None:
    watched = Watched()
    watched.poll(FAILED, QUEUED)
    watched.poll(FAILED, QUEUED, after=TOGETHER + 1)

    assert watched.poll(QUEUED) == {}


def test_much_later_entry_is_another_download() -> None:
    watched = Watched()
    watched.poll(FAILED)
    watched.poll(after=TOGETHER)
    watched.poll(after=TOGETHER)

    assert watched.poll(QUEUED) == {}


def test_completed_entry_is_not_retried() -> None:
    watched = Watched()
    watched.poll(status(OLD, Phase.COMPLETED))

    assert watched.poll(QUEUED) == {}


def test_one_retry_replaces_one_failure() -> None:
    watched = Watched()
    watched.poll(FAILED, status(THIRD, Phase.FAILED))

    found = watched.poll(QUEUED)

    assert found.keys() == {NEW}
    assert watched.poll(QUEUED, status(ItemId("fourth"), Phase.QUEUED)).keys() == {NEW, "fourth"}

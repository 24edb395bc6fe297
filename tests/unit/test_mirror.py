"""Differences between the list of a client and the bucket."""

from mediabus.schemas.status import ClientName, DownloadStatus, ItemId, Phase
from mediabus.service.clients.port import Delta, Snapshot
from mediabus.service.monitor.watch.mirror import Mirror

REMOVED_AFTER = 5.0


def status(item: str, progress: float = 0.0) -> DownloadStatus:
    return DownloadStatus(
        client=ClientName("home"),
        item=ItemId(item),
        title=item,
        phase=Phase.DOWNLOADING,
        progress=progress,
    )


def written_out(mirror: Mirror) -> tuple[list[str], list[str]]:
    """Write and delete all differences, and return them."""
    statuses, gone = mirror.to_write(), mirror.to_delete()
    for each in statuses:
        mirror.wrote(each)
    for item in gone:
        mirror.deleted(item)
    return sorted(each.item for each in statuses), sorted(gone)


def test_only_changed_statuses_are_written() -> None:
    mirror = Mirror(REMOVED_AFTER)
    mirror.apply(Snapshot([status("a"), status("b")]), 0)
    assert written_out(mirror) == (["a", "b"], [])
    mirror.apply(Snapshot([status("a"), status("b", 0.5)]), 1)
    assert written_out(mirror) == (["b"], [])
    mirror.apply(Delta([status("a", 0.1)], []), 2)
    assert written_out(mirror) == (["a"], [])
    mirror.apply(Delta([], []), 3)
    assert written_out(mirror) == ([], [])


def test_unwritten_status_is_written_later() -> None:
    mirror = Mirror(REMOVED_AFTER)
    mirror.apply(Snapshot([status("a")]), 0)
    mirror.apply(Delta([], []), 1)
    assert mirror.to_write() == [status("a")]
    # It changes while the write is under way: what was written is not what it shows.
    mirror.apply(Delta([status("a", 0.5)], []), 2)
    mirror.wrote(status("a"))
    assert mirror.to_write() == [status("a", 0.5)]
    # And back again, which the bucket has already.
    mirror.apply(Delta([status("a")], []), 3)
    assert mirror.to_write() == []


def test_empty_list_removes_downloads_only_after_removed_after() -> None:
    mirror = Mirror(REMOVED_AFTER)
    mirror.apply(Snapshot([status("a")]), 0)
    written_out(mirror)
    mirror.apply(Snapshot([]), 1)
    assert mirror.is_waiting()
    mirror.apply(Snapshot([]), 2)
    assert written_out(mirror) == ([], [])
    mirror.apply(Snapshot([status("a")]), 3)
    assert not mirror.is_waiting()
    mirror.apply(Snapshot([]), 4)
    mirror.apply(Snapshot([]), 4 + REMOVED_AFTER - 0.1)
    assert written_out(mirror) == ([], [])
    mirror.apply(Snapshot([]), 4 + REMOVED_AFTER)
    assert written_out(mirror) == ([], ["a"])
    assert not mirror.is_waiting()


def test_one_poll_never_removes_a_download() -> None:
    mirror = Mirror(REMOVED_AFTER)
    mirror.apply(Snapshot([status("a")]), 0)
    written_out(mirror)
    mirror.apply(Snapshot([]), 1000)
    assert written_out(mirror) == ([], [])


def test_explicit_removal_deletes_key_at_once() -> None:
    mirror = Mirror(REMOVED_AFTER)
    mirror.apply(Snapshot([status("a"), status("b")]), 0)
    written_out(mirror)
    mirror.apply(Delta([], [ItemId("a"), ItemId("never seen")]), 1)
    assert written_out(mirror) == ([], ["a"])


def test_download_listed_again_before_deletion_is_kept() -> None:
    mirror = Mirror(REMOVED_AFTER)
    mirror.apply(Snapshot([status("a")]), 0)
    written_out(mirror)
    mirror.apply(Delta([], [ItemId("a")]), 1)
    mirror.apply(Delta([status("a")], []), 2)
    assert mirror.to_delete() == []


def test_key_of_unlisted_download_is_deleted_after_removed_after() -> None:
    mirror = Mirror(REMOVED_AFTER)
    mirror.start_with({ItemId("old"): status("old"), ItemId("same"): status("same")})
    mirror.apply(Snapshot([status("same")]), 0)
    assert written_out(mirror) == ([], [])
    mirror.apply(Delta([], []), REMOVED_AFTER)
    assert written_out(mirror) == ([], ["old"])


def test_expected_download_that_is_never_listed_is_deleted() -> None:
    mirror = Mirror(REMOVED_AFTER)
    mirror.expect([ItemId("promised")])
    mirror.apply(Snapshot([]), 0)
    mirror.expect([ItemId("promised")])
    mirror.apply(Snapshot([]), REMOVED_AFTER)
    assert written_out(mirror) == ([], ["promised"])


def test_empty_bucket_is_written_in_full() -> None:
    mirror = Mirror(REMOVED_AFTER)
    mirror.apply(Snapshot([status("a"), status("b")]), 0)
    written_out(mirror)
    mirror.start_with({})
    assert written_out(mirror) == (["a", "b"], [])
    assert {each.item for each in mirror.shown()} == {"a", "b"}

"""What a client shows beside what the bucket says of it."""

from schemas.status import ClientName, DownloadStatus, ItemId, Phase
from service.clients.port import Delta, Snapshot
from service.monitor.mirror import Mirror

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
    """What is to be written and to go, done."""
    statuses, gone = mirror.to_write(), mirror.to_delete()
    for each in statuses:
        mirror.wrote(each)
    for item in gone:
        mirror.deleted(item)
    return sorted(each.item for each in statuses), sorted(gone)


def test_only_what_changed_is_written() -> None:
    mirror = Mirror(REMOVED_AFTER)
    mirror.take(Snapshot([status("a"), status("b")]), 0)
    assert written_out(mirror) == (["a", "b"], [])
    mirror.take(Snapshot([status("a"), status("b", 0.5)]), 1)
    assert written_out(mirror) == (["b"], [])
    mirror.take(Delta([status("a", 0.1)], []), 2)
    assert written_out(mirror) == (["a"], [])
    mirror.take(Delta([], []), 3)
    assert written_out(mirror) == ([], [])


def test_what_could_not_be_written_stays_to_be_written() -> None:
    mirror = Mirror(REMOVED_AFTER)
    mirror.take(Snapshot([status("a")]), 0)
    mirror.take(Delta([], []), 1)
    assert mirror.to_write() == [status("a")]
    # It changes while the write is under way: what was written is not what it shows.
    mirror.take(Delta([status("a", 0.5)], []), 2)
    mirror.wrote(status("a"))
    assert mirror.to_write() == [status("a", 0.5)]
    # And back again, which the bucket has already.
    mirror.take(Delta([status("a")], []), 3)
    assert mirror.to_write() == []


def test_an_empty_list_is_no_removal_until_it_has_lasted() -> None:
    mirror = Mirror(REMOVED_AFTER)
    mirror.take(Snapshot([status("a")]), 0)
    written_out(mirror)
    mirror.take(Snapshot([]), 1)
    assert mirror.is_waiting()
    mirror.take(Snapshot([]), 2)
    assert written_out(mirror) == ([], [])
    mirror.take(Snapshot([status("a")]), 3)
    assert not mirror.is_waiting()
    mirror.take(Snapshot([]), 4)
    mirror.take(Snapshot([]), 4 + REMOVED_AFTER - 0.1)
    assert written_out(mirror) == ([], [])
    mirror.take(Snapshot([]), 4 + REMOVED_AFTER)
    assert written_out(mirror) == ([], ["a"])
    assert not mirror.is_waiting()


def test_one_look_is_never_enough_however_long_ago_the_last_one_was() -> None:
    mirror = Mirror(REMOVED_AFTER)
    mirror.take(Snapshot([status("a")]), 0)
    written_out(mirror)
    mirror.take(Snapshot([]), 1000)
    assert written_out(mirror) == ([], [])


def test_a_client_that_names_what_it_removed_is_believed() -> None:
    mirror = Mirror(REMOVED_AFTER)
    mirror.take(Snapshot([status("a"), status("b")]), 0)
    written_out(mirror)
    mirror.take(Delta([], [ItemId("a"), ItemId("never seen")]), 1)
    assert written_out(mirror) == ([], ["a"])


def test_what_comes_back_before_its_key_went_is_not_gone() -> None:
    mirror = Mirror(REMOVED_AFTER)
    mirror.take(Snapshot([status("a")]), 0)
    written_out(mirror)
    mirror.take(Delta([], [ItemId("a")]), 1)
    mirror.take(Delta([status("a")], []), 2)
    assert mirror.to_delete() == []


def test_what_the_bucket_has_and_the_client_has_not_goes_after_a_while() -> None:
    mirror = Mirror(REMOVED_AFTER)
    mirror.start_with({ItemId("old"): status("old"), ItemId("same"): status("same")})
    mirror.take(Snapshot([status("same")]), 0)
    assert written_out(mirror) == ([], [])
    mirror.take(Delta([], []), REMOVED_AFTER)
    assert written_out(mirror) == ([], ["old"])


def test_what_is_expected_and_never_shown_goes_after_a_while() -> None:
    mirror = Mirror(REMOVED_AFTER)
    mirror.expect([ItemId("promised")])
    mirror.take(Snapshot([]), 0)
    mirror.expect([ItemId("promised")])
    mirror.take(Snapshot([]), REMOVED_AFTER)
    assert written_out(mirror) == ([], ["promised"])


def test_a_bucket_that_was_emptied_is_written_in_full() -> None:
    mirror = Mirror(REMOVED_AFTER)
    mirror.take(Snapshot([status("a"), status("b")]), 0)
    written_out(mirror)
    mirror.start_with({})
    assert written_out(mirror) == (["a", "b"], [])
    assert {each.item for each in mirror.shown()} == {"a", "b"}

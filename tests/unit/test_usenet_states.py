"""Every word of the usenet clients' own, and what we take it for."""

import pytest

from mediabus.schemas.status import ClientName, FailureReason, Phase
from mediabus.service.clients import nzb
from mediabus.service.clients.nzbget import rpc as nzbget
from mediabus.service.clients.nzbget import states as nzbget_states
from mediabus.service.clients.nzbget.states import Finished, Group, State
from mediabus.service.clients.sabnzbd import rpc as sabnzbd
from mediabus.service.clients.sabnzbd import states as sabnzbd_states

CLIENT = ClientName("attic")
RUNNING = State(download_paused=False, download_rate=0, server_time=0, up_time_sec=9)
ALL_PAUSED = State(download_paused=True, download_rate=0, server_time=0, up_time_sec=9)

NZBGET_QUEUE = {
    "QUEUED": Phase.QUEUED,
    "PAUSED": Phase.PAUSED,
    "DOWNLOADING": Phase.DOWNLOADING,
    "FETCHING": Phase.METADATA,
    "QS_QUEUED": Phase.PROCESSING,
    "QS_EXECUTING": Phase.PROCESSING,
    "PP_QUEUED": Phase.PROCESSING,
    "LOADING_PARS": Phase.PROCESSING,
    "VERIFYING_SOURCES": Phase.PROCESSING,
    "REPAIRING": Phase.PROCESSING,
    "VERIFYING_REPAIRED": Phase.PROCESSING,
    "RENAMING": Phase.PROCESSING,
    "UNPACKING": Phase.PROCESSING,
    "MOVING": Phase.PROCESSING,
    "POST_UNPACK_RENAMING": Phase.PROCESSING,
    "EXECUTING_SCRIPT": Phase.PROCESSING,
    "PP_FINISHED": Phase.PROCESSING,
    "A_WORD_OF_NEXT_YEAR": Phase.UNKNOWN,
}

NZBGET_HISTORY: dict[str, tuple[Phase, FailureReason | None]] = {
    "SUCCESS/ALL": (Phase.COMPLETED, None),
    "SUCCESS/GOOD": (Phase.COMPLETED, None),
    "SUCCESS/HEALTH": (Phase.COMPLETED, None),
    "SUCCESS/MARK": (Phase.COMPLETED, None),
    "SUCCESS/PAR": (Phase.COMPLETED, None),
    "SUCCESS/UNPACK": (Phase.COMPLETED, None),
    "WARNING/DAMAGED": (Phase.FAILED, "missing_articles"),
    "WARNING/HEALTH": (Phase.COMPLETED, None),
    "WARNING/PASSWORD": (Phase.FAILED, "password"),
    "WARNING/REPAIRABLE": (Phase.COMPLETED, None),
    "WARNING/SCRIPT": (Phase.COMPLETED, None),
    "WARNING/SKIPPED": (Phase.FAILED, "rejected"),
    "WARNING/SPACE": (Phase.FAILED, "disk_full"),
    "FAILURE/BAD": (Phase.FAILED, "rejected"),
    "FAILURE/FETCH": (Phase.FAILED, "client_error"),
    "FAILURE/HEALTH": (Phase.FAILED, "missing_articles"),
    "FAILURE/INTERNAL_ERROR": (Phase.FAILED, "client_error"),
    "FAILURE/MOVE": (Phase.FAILED, "client_error"),
    "FAILURE/PAR": (Phase.FAILED, "missing_articles"),
    "FAILURE/SCAN": (Phase.FAILED, "rejected"),
    "FAILURE/UNPACK": (Phase.FAILED, "unpack"),
    "DELETED/COPY": (Phase.FAILED, "rejected"),
    "DELETED/DUPE": (Phase.FAILED, "rejected"),
    "DELETED/GOOD": (Phase.FAILED, "rejected"),
    "SUCCESS/NEXT_YEAR": (Phase.COMPLETED, None),
    "WARNING/NEXT_YEAR": (Phase.COMPLETED, None),
    "FAILURE/NEXT_YEAR": (Phase.FAILED, "client_error"),
    "NEXT_YEAR": (Phase.UNKNOWN, None),
    "": (Phase.UNKNOWN, None),
}


@pytest.mark.parametrize(("word", "phase"), NZBGET_QUEUE.items())
def test_an_nzbget_queue_status_means(word: str, phase: Phase) -> None:
    status = nzbget_states.queued(CLIENT, Group(nzb_id=7, status=word), RUNNING)

    assert (status.item, status.phase, status.client_state) == ("7", phase, word)
    assert status.reason is None


@pytest.mark.parametrize(("word", "ended"), NZBGET_HISTORY.items())
def test_an_nzbget_history_status_means(
    word: str, ended: tuple[Phase, FailureReason | None]
) -> None:
    status = nzbget_states.finished(CLIENT, Finished(nzb_id=7, name="a", status=word))

    assert (status.phase, status.reason, status.client_state) == (*ended, word)
    assert (status.message is not None) is (status.phase is Phase.FAILED)
    assert (status.warning is not None) is (
        status.phase is Phase.COMPLETED and word.startswith("WARNING")
    )


def test_every_nzbget_status_is_covered() -> None:
    assert nzbget_states.QUEUE.keys() <= NZBGET_QUEUE.keys()
    assert nzbget_states.HISTORY.keys() <= NZBGET_HISTORY.keys()


@pytest.mark.parametrize("word", ["QUEUED", "DOWNLOADING"])
@pytest.mark.parametrize(
    ("state", "paused", "priority", "phase"),
    [
        (RUNNING, 0, 0, None),
        (RUNNING, 60, 0, None),  # recovery files, for when they are needed
        (RUNNING, 100, 0, Phase.PAUSED),  # articles on their way still arrive
        (ALL_PAUSED, 0, 0, Phase.PAUSED),
        (ALL_PAUSED, 0, 900, None),
    ],
)
def test_an_nzbget_pause_is_seen_at_once(
    word: str, state: State, paused: int, priority: int, phase: Phase | None
) -> None:
    group = Group(
        nzb_id=7,
        status=word,
        remaining_size_lo=100,
        paused_size_lo=paused,
        max_priority=priority,
    )

    assert nzbget_states.phase_of(group, state) is (phase or NZBGET_QUEUE[word])


def test_nzbget_numbers_are_passed_on_in_64_bits() -> None:
    group = Group(
        nzb_id=7,
        status="DOWNLOADING",
        nzb_name="Dune",
        category="films",
        file_size_lo=0,
        file_size_hi=2,
        remaining_size_hi=1,
        downloaded_size_lo=5,
        downloaded_size_hi=1,
        total_articles=90,
        failed_articles=3,
    )
    state = State(download_paused=False, download_rate=1 << 20, server_time=0, up_time_sec=9)

    status = nzbget_states.queued(CLIENT, group, state)

    assert (status.size, status.progress, status.downloaded) == (2 << 32, 0.5, (1 << 32) + 5)
    assert (status.download_rate, status.eta) == (1 << 20, 1 << 12)
    assert (status.title, status.category) == ("Dune", "films")
    assert status.message == "3 of 90 articles are missing"


@pytest.mark.parametrize(
    ("status", "log", "reason"),
    [
        ("FAILURE/UNPACK", "7-Zip: Cannot open encrypted archive. Wrong password?", "password"),
        ("FAILURE/UNPACK", "write error: No space left on device", "disk_full"),
        ("FAILURE/UNPACK", "7-Zip error code: 2", "unpack"),
        ("FAILURE/MOVE", "could not create: errno 20 (Not a directory)", "not_writable"),
        ("FAILURE/MOVE", "", "client_error"),
        ("FAILURE/HEALTH", "a password is not what it is about", "missing_articles"),
    ],
)
def test_the_log_of_nzbget_puts_a_vague_failure_more_precisely(
    status: str, log: str, reason: FailureReason
) -> None:
    assert nzbget_states.outcome(status, log) == (Phase.FAILED, reason)


def test_a_warning_of_nzbget_is_shown_on_a_completed_download() -> None:
    entry = Finished(
        nzb_id=7, name="a", status="WARNING/HEALTH", total_articles=64, failed_articles=1
    )

    status = nzbget_states.finished(CLIENT, entry)

    assert status.phase is Phase.COMPLETED
    assert status.warning == "WARNING/HEALTH; 1 of 64 articles are missing"


SABNZBD_QUEUE = {
    "Checking": Phase.CHECKING,
    "Downloading": Phase.DOWNLOADING,
    "Fetching": Phase.DOWNLOADING,
    "Grabbing": Phase.METADATA,
    "Idle": Phase.QUEUED,
    "Paused": Phase.PAUSED,
    "Propagating": Phase.QUEUED,
    "Queued": Phase.QUEUED,
    "A word of next year": Phase.UNKNOWN,
}

SABNZBD_HISTORY = {
    "Completed": Phase.COMPLETED,
    "Extracting": Phase.PROCESSING,
    "Failed": Phase.FAILED,
    "Fetching": Phase.PROCESSING,
    "Moving": Phase.PROCESSING,
    "Queued": Phase.PROCESSING,
    "QuickCheck": Phase.PROCESSING,
    "Repairing": Phase.PROCESSING,
    "Running": Phase.PROCESSING,
    "Verifying": Phase.PROCESSING,
    "A word of next year": Phase.UNKNOWN,
}


@pytest.mark.parametrize(("word", "phase"), SABNZBD_QUEUE.items())
def test_a_sabnzbd_queue_status_means(word: str, phase: Phase) -> None:
    slot = sabnzbd_states.Slot(nzo_id="a", filename="a", status=word)

    assert sabnzbd_states.phase_of(slot, paused=False, in_turn=True) is phase


@pytest.mark.parametrize(("word", "phase"), SABNZBD_HISTORY.items())
def test_a_sabnzbd_history_status_means(word: str, phase: Phase) -> None:
    entry = sabnzbd_states.Past(nzo_id="a", name="a", status=word, storage="/films/a")

    status = sabnzbd_states.past(CLIENT, entry)

    assert (status.phase, status.client_state) == (phase, word)
    assert (status.reason is not None) is (phase is Phase.FAILED)


def test_every_sabnzbd_status_is_covered() -> None:
    assert sabnzbd_states.QUEUE.keys() <= SABNZBD_QUEUE.keys()
    assert sabnzbd_states.HISTORY.keys() <= SABNZBD_HISTORY.keys()


def test_a_sabnzbd_download_is_completed_once_it_has_a_path() -> None:
    entry = sabnzbd_states.Past(nzo_id="a", name="a", status="Completed", storage="")

    assert sabnzbd_states.past(CLIENT, entry).phase is Phase.PROCESSING


@pytest.mark.parametrize(
    ("storage", "folder"),
    [
        ("/films/Dune", "/films/Dune"),
        ("/films/Dune/dune.mkv", "/films/Dune"),
        ("/films/Dune.1/dune.mkv", "/films/Dune.1"),
        ("/films/Dune/Dune", "/films/Dune"),
        ("D:\\films\\Dune\\dune.mkv", "D:\\films\\Dune"),
        ("D:\\films\\Dune", "D:\\films\\Dune"),
        ("", None),
        (None, None),
    ],
)
def test_sabnzbd_names_the_folder_or_the_file_in_it(
    storage: str | None, folder: str | None
) -> None:
    entry = sabnzbd_states.Past(nzo_id="a", name="Dune", status="Completed", storage=storage)

    assert sabnzbd_states.folder(entry) == folder


@pytest.mark.parametrize(
    ("timeleft", "seconds"),
    [("0:00:00", None), ("0:01:10", 70), ("12:00:01", 43201), ("1:02:03:04", 93784), ("", None)],
)
def test_sabnzbd_time_left_with_colons_is_parsed(timeleft: str, seconds: int | None) -> None:
    slot = sabnzbd_states.Slot(nzo_id="a", filename="a", status="Downloading", timeleft=timeleft)

    assert sabnzbd_states.queued(CLIENT, slot, Phase.DOWNLOADING).eta == seconds


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("No space left on device while unpacking", "disk_full"),
        ("Unpack for a failed", "unpack"),
        ("Aborted, unwanted extension detected", "rejected"),
        ("Skipping duplicate a, already queued", "rejected"),
        ("", "client_error"),
    ],
)
def test_messages_of_usenet_clients_map_to_a_reason(words: str, reason: FailureReason) -> None:
    assert nzb.usenet_reason(words) == reason


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("Dune (2021).nzb", "Dune (2021)"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("a\x00b\nc", "a_b_c"),
        ("ü" * 200, "ü" * 100),
        ("trailing. . ", "trailing"),
        ("...", "download"),
        ("", "download"),
    ],
)
def test_a_name_becomes_a_folder_name(name: str, folder: str) -> None:
    assert nzb.file_name(name) == folder


@pytest.mark.parametrize(
    ("url", "rpc", "api"),
    [
        ("http://nas:6789", "http://nas:6789/jsonrpc", "http://nas:6789/api"),
        ("https://nas/usenet/", "https://nas/usenet/jsonrpc", "https://nas/usenet/api"),
    ],
)
def test_the_apis_are_found_below_the_addresses_of_the_pages(url: str, rpc: str, api: str) -> None:
    assert str(nzbget.rpc_url(url)) == str(nzbget.rpc_url(rpc)) == rpc
    assert str(sabnzbd.api_url(url)) == str(sabnzbd.api_url(api)) == api

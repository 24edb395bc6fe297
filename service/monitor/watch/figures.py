"""The metrics of one download client, as of its last poll."""

from collections import Counter
from collections.abc import Iterable

from mediabus.runtime import metrics
from mediabus.schemas.status import ClientName, DownloadStatus, Phase


def show_downloads(client: ClientName, statuses: Iterable[DownloadStatus]) -> None:
    """Expose the number of downloads in each phase, and their rate."""
    phases: Counter[Phase] = Counter()
    rate = 0
    for status in statuses:
        phases[status.phase] += 1
        rate += status.download_rate
    for phase in Phase:
        metrics.DOWNLOADS.set(phases[phase], client, phase)
    metrics.DOWNLOAD_RATE.set(rate, client)


def show_outage(client: ClientName) -> None:
    """Expose that the client does not answer: what it lists is unknown."""
    metrics.CLIENT_REACHABLE.set(0, client)
    for measured in (metrics.DOWNLOADS, metrics.DOWNLOAD_RATE):
        measured.remove_by_labels({"client": client})

"""The primary of PostgreSQL is killed under load, and Patroni promotes its synchronous standby."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.failover import table
from chaos.patroni import fail_over
from tests.support.patroni import PatroniCluster, Times, patroni_cluster

FAULTS = ["kill -9"] * 3


@pytest.fixture
def cluster() -> Iterator[PatroniCluster]:
    with patroni_cluster() as running:
        yield running


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_nothing_is_lost_when_the_primary_is_killed_again_and_again(
    cluster: PatroniCluster, nats_url: str, tmp_path: Path
) -> None:
    report = await fail_over(cluster, nats_url, tmp_path, FAULTS, operations=30, publishes=10)
    assert report.is_good, table(report)
    assert len(report.replacements) == len(FAULTS)
    assert report.findings.verdict.acknowledged > 500
    silences = [one.silent for one in report.replacements]
    assert min(silences) > 1  # an answer in between would be one of the killed primary
    assert max(silences) < Times.ttl + 60

"""Every server of a NATS cluster is restarted in turn, in lame duck mode, under load."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.failover import table
from chaos.rolling import LAME_DUCK_CONF, upgrade
from tests.support.cluster import NatsCluster, nats_cluster

MOST_WARNINGS = 60
"""For each process, over three restarts. Four to six are usual."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[NatsCluster]:
    folder = tmp_path / "nats"
    folder.mkdir()
    with nats_cluster(folder, config_extra=LAME_DUCK_CONF) as running:
        yield running


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_nothing_is_lost_in_a_rolling_upgrade_of_nats(
    cluster: NatsCluster, database_url: str, tmp_path: Path
) -> None:
    report, spreads, warnings = await upgrade(
        cluster, database_url, tmp_path, operations=30, publishes=10
    )
    assert report.is_good, table(report)
    assert len(report.replacements) == len(cluster.servers)
    assert report.findings.verdict.acknowledged > 300
    assert [len(spread) for spread in spreads] == [2, 2, 2]
    assert all(clients > 0 for spread in spreads for clients in spread.values()), spreads
    assert len(warnings) == 4
    assert max(warnings.values()) < MOST_WARNINGS, warnings

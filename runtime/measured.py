"""A gauge that is absent until it is measured, instead of 0."""

from collections.abc import Iterable, Mapping

from prometheus_client import REGISTRY
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class Measured(Collector):
    """A gauge with a series for each combination of labels that this process has measured.

    A process that does not know a figure must not expose it: alerts and dashboards take a 0 for a
    measured 0, and `absent()` finds that no process measures. ``Gauge`` of prometheus_client
    exposes 0 from the start.
    """

    def __init__(self, name: str, documentation: str, labels: Iterable[str] = ()) -> None:
        self.name = name
        self.labels = tuple(labels)
        self._documentation = documentation
        self._values: dict[tuple[str, ...], float] = {}
        REGISTRY.register(self)

    def set(self, value: float, *labels: str) -> None:
        """Set the series with these values of the labels."""
        self._values[self._checked(labels)] = value

    def get(self, *labels: str) -> float | None:
        """Return the value of a series; None if it is absent."""
        return self._values.get(self._checked(labels))

    def remove(self, *labels: str) -> None:
        """Remove a series, because its value is no longer known."""
        self._values.pop(self._checked(labels), None)

    def replace(self, values: Mapping[tuple[str, ...], float]) -> None:
        """Replace all series."""
        self._values = {self._checked(labels): value for labels, value in values.items()}

    def clear(self) -> None:
        """Remove all series."""
        self._values = {}

    def remove_by_labels(self, labels: Mapping[str, str]) -> None:
        """Remove each series whose labels have these values."""
        wanted = {self.labels.index(name): value for name, value in labels.items()}
        self._values = {
            found: value
            for found, value in self._values.items()
            if any(found[place] != expected for place, expected in wanted.items())
        }

    def describe(self) -> Iterable[Metric]:
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        family = self._family()
        for labels, value in self._values.items():
            family.add_metric(labels, value)
        return [family]

    def _family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(self.name, self._documentation, labels=self.labels)

    def _checked(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        if len(labels) != len(self.labels):
            raise ValueError(f"{self.name} has the labels {self.labels}, not {labels}")
        return labels

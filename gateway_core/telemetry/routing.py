"""The metrics of routing, made when Prometheus asks: nothing is recorded meanwhile."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from gateway_core.routing.board import Board
from gateway_core.telemetry import names
from gateway_core.telemetry.names import Instrument

STATES = {"closed": 0, "half_open": 1, "open": 2}
LABEL_CHARACTERS_AT_MOST = 128


class Routing:
    """A collector of Prometheus' client library."""

    def __init__(self, board: Board) -> None:
        """Takes what is known."""
        self._board = board

    def collect(self) -> Iterator[Metric]:
        """What is known now."""
        of = names.CIRCUIT_STATE
        circuits = GaugeMetricFamily(of.prometheus_name, of.description, labels=of.labels)
        for told in self._board.told():
            labels = (told.provider[:LABEL_CHARACTERS_AT_MOST], told.model[:LABEL_CHARACTERS_AT_MOST])
            circuits.add_metric(labels, STATES[told.circuit])
        yield circuits
        yield counted(names.PROVIDER_ALARMS, self._board.alarms)
        yield counted(names.HEDGES, self._board.hedges)
        left, refused = names.RETRY_BUDGET_LEFT, names.RETRIES_REFUSED
        yield GaugeMetricFamily(left.prometheus_name, left.description, self._board.budget.left())
        yield CounterMetricFamily(refused.prometheus_name, refused.description, self._board.budget.refused)


def counted(of: Instrument, counts: Mapping[tuple[str, str], int]) -> Metric:
    """Counts by two labels."""
    family = CounterMetricFamily(of.prometheus_name, of.description, labels=of.labels)
    for labels, count in dict(counts).items():
        family.add_metric(labels, float(count))
    return family

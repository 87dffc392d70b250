"""Counts and measures that cost the call next to nothing: plain numbers, put into Prometheus' form when it asks.

The event loop's thread writes; whichever thread asks reads copies. A number that is written meanwhile may be missing
from the sum and there in the buckets, as with the client library's own.
"""

import time
from bisect import bisect_left
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.utils import floatToGoString

from gateway_core.telemetry.names import Instrument

LabelValues = tuple[str, ...]


class Measure:
    """What was measured under one set of labels."""

    __slots__ = ("_bounds", "counts", "created", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """Takes the upper bounds of the buckets, rising; the last bucket has none."""
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """By bucket: those of lower ones are not in."""
        self.total = 0.0
        self.created = time.time()

    def add(self, value: float) -> None:
        """Takes a value; one that is a bucket's bound is in that bucket."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


class Histogram:
    """All measures of one instrument, by their labels; a collector of Prometheus' client library."""

    def __init__(self, instrument: Instrument) -> None:
        """Begins without any."""
        self._instrument = instrument
        self._measures: dict[LabelValues, Measure] = {}

    def measure(self, *labels: str) -> Measure:
        """The measure of a set of labels, which is told from now on."""
        found = self._measures.get(labels)
        if found is None:
            found = self._measures[labels] = Measure(self._instrument.buckets)
        return found

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """What was measured so far."""
        instrument = self._instrument
        names = instrument.labels
        bounds = [*map(floatToGoString, instrument.buckets), "+Inf"]
        family = HistogramMetricFamily(instrument.prometheus_name, instrument.description, labels=names)
        for labels, measure in list(self._measures.items()):
            total, within = measure.total, 0
            buckets: list[tuple[str, float]] = []
            for bound, count in zip(bounds, measure.counts.copy(), strict=True):
                within += count
                buckets.append((bound, within))
            family.add_metric(labels, buckets, float(total))
            family.add_sample(f"{family.name}_created", dict(zip(names, labels, strict=True)), measure.created)
        yield family


class Count:
    """What was counted under one set of labels."""

    __slots__ = ("created", "value")

    def __init__(self) -> None:
        """Begins with nothing."""
        self.value = 0
        self.created = time.time()


class Counter:
    """All counts of one instrument, by their labels; a collector of Prometheus' client library."""

    def __init__(self, instrument: Instrument) -> None:
        """Begins without any."""
        self._instrument = instrument
        self._counts: dict[LabelValues, Count] = {}

    def count(self, *labels: str) -> Count:
        """The count of a set of labels, which is told from now on."""
        found = self._counts.get(labels)
        if found is None:
            found = self._counts[labels] = Count()
        return found

    def add(self, *labels: str, amount: int = 1) -> None:
        """Counts."""
        self.count(*labels).value += amount

    def collect(self) -> Iterator[CounterMetricFamily]:
        """What was counted so far."""
        instrument = self._instrument
        family = CounterMetricFamily(instrument.prometheus_name, instrument.description, labels=instrument.labels)
        for labels, count in list(self._counts.items()):
            family.add_metric(labels, float(count.value), created=count.created)
        yield family

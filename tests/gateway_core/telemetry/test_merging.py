"""The metrics of several workers as one text."""

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from gateway_core.telemetry.merging import labelled, merged

ODD = 'q"}{ \\ \n x="1",} 3'


def registry(calls: int, *, has_gauge: bool = True) -> CollectorRegistry:
    found = CollectorRegistry()
    Counter("calls", "Calls.\nAll of them.", ["model"], registry=found).labels(ODD).inc(calls)
    Histogram("seconds", "How long.", registry=found).observe(calls)
    if has_gauge:
        Gauge("open", "Open ones.", registry=found).set(calls)
    return found


def texts(form: str) -> list[bytes]:
    write = openmetrics.generate_latest if form == "openmetrics" else generate_latest
    return [write(registry(3)), write(registry(4, has_gauge=False))]


@pytest.mark.parametrize("form", ["prometheus", "openmetrics"])
def test_each_sample_tells_whose_it_is_and_each_family_stands_once(form: str) -> None:
    text = merged([labelled(text, number) for number, text in enumerate(texts(form), 7)]).decode()
    parse = openmetrics_families if form == "openmetrics" else text_string_to_metric_families
    families = list(parse(text))
    names = [family.name for family in families]
    assert len(set(names)) == len(names)
    samples = {
        (sample.name, sample.labels["worker"]): sample.value
        for family in families
        for sample in family.samples
        if sample.labels.get("model", ODD) == ODD and "le" not in sample.labels
    }
    assert samples["calls_total", "7"] == 3
    assert samples["calls_total", "8"] == 4
    assert samples["seconds_sum", "8"] == 4
    assert samples["open", "7"] == 3
    assert ("open", "8") not in samples
    assert text.count("# EOF") == (form == "openmetrics")


def test_nothing_but_the_label_is_added_to_the_metrics_of_one_worker() -> None:
    for form in ("prometheus", "openmetrics"):
        (text, _) = texts(form)
        added = merged([labelled(text, 1)]).decode()
        assert added.replace('worker="1",', "").replace('{worker="1"}', "") == text.decode()

"""Every metric is on its page and named as Prometheus' users expect."""

import re

import pytest

from harness.docs.metrics import MetricInfo, all_metrics

METRICS = [(part, info) for part, metrics in all_metrics().items() for info in metrics]
NOT_BASE_UNITS = {"ms", "us", "milliseconds", "minutes", "hours", "days", "kb", "kib", "percent", "mwh", "kwh", "wh"}
OF_THE_SCRAPE = {"job", "instance", "part", "place"}
PRIVATE = {"meter", "customer", "account", "household", "location", "address", "id"}


@pytest.mark.parametrize(("part", "info"), METRICS, ids=[info.name for _, info in METRICS])
def test_metric_follows_the_conventions(part: str, info: MetricInfo) -> None:
    prefix = "process" if part == "every part" else f"commonwatt_{part}"
    assert re.fullmatch(rf"{prefix}(_[a-z][a-z0-9]*)*", info.name)
    assert info.name.endswith("_total") == (info.kind == "counter")
    assert info.kind in ("counter", "gauge", "histogram")
    assert not set(info.name.split("_")) & NOT_BASE_UNITS, "base units are seconds, bytes, ratios"
    assert not set(info.labels) & PRIVATE, "no label tells whose data it is"
    assert not set(info.labels) & OF_THE_SCRAPE, "Prometheus gives these itself, and would rename ours"
    assert info.text.endswith("."), "help is a sentence"


def test_names_are_used_once() -> None:
    names = [info.name for _, info in METRICS]
    assert len(set(names)) == len(names)

"""What Prometheus reads of the town: also while its figures can't be read, since other metrics say why."""

from collections.abc import Callable

import pytest
from fastapi import FastAPI
from sqlalchemy.exc import OperationalError

from harness.console import Browser
from utility.overview.pages.town import metrics_of
from utility.overview.pages.town_view import TownView
from utility.webkit.console.console import Console


def test_microgrids_are_counted_by_state(app: FastAPI, browser: Callable[..., Browser]) -> None:
    shown = browser().get("/metrics").text
    # The town's two gateways have not reported yet.
    assert 'commonwatt_utility_microgrids{state="late"} 2.0' in shown
    assert 'commonwatt_utility_microgrids{state="fresh"} 0.0' in shown
    assert 'commonwatt_utility_missing_slots{period="yesterday"} 0.0' in shown
    assert "commonwatt_utility_town_watts{" not in shown, "without a reading there is no power"
    console: Console = app.state.console
    assert metrics_of(TownView(console.api).get())["town_watts"] == {}


def test_other_metrics_are_served_when_the_town_can_not_be_read(
    browser: Callable[..., Browser], monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(_: TownView) -> None:
        raise OperationalError("SELECT", {}, Exception("disk I/O error"))

    monkeypatch.setattr(TownView, "get", damaged)
    answer = browser().get("/metrics")
    assert answer.status_code == 200
    assert "commonwatt_utility_store_errors_total 0.0" in answer.text
    assert "commonwatt_utility_microgrids{" not in answer.text

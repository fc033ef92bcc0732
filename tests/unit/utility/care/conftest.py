"""Codes whose secrets are derived quickly: what a guess costs is not tested here."""

import pytest

from commonwatt.care import code


@pytest.fixture(autouse=True)
def _cheap_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "_COST_N", 2)

"""Controllers whose clocks leap, and a line that is away for months; ``python -m harness.care.years`` runs 80."""

import logging
from pathlib import Path

import pytest

from harness.care.years import run


def test_no_certificate_ends_while_the_utility_can_be_reached(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    figures = run(tmp_path, controllers=3)
    assert figures.results["renewed"] >= 3 * 5
    assert (figures.ended, figures.ended_away, figures.visits) == (0, 1, 0)
    assert figures.longest_s <= 3_600

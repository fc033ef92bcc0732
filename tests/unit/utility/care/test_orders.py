"""Random orders of labels, joins, renewals, revocations and exchanges leave each controller with a working pair."""

import os
from pathlib import Path

import pytest

from harness.care.orders import STEPS, play

ORDERS = int(os.environ.get("ORDERS", "1"))  # random orders; ``make soak`` has more


@pytest.mark.parametrize("seed", range(ORDERS))
def test_whatever_the_order_is_pairs_work_and_names_and_codes_are_of_one_controller(tmp_path: Path, seed: int) -> None:
    assert {step.__name__ for step in STEPS} <= play(tmp_path, seed, 150).keys()

"""What a meter can have measured at most."""

import pytest

from commonwatt.model.records import RecordType
from commonwatt.model.validation import limits_of


@pytest.mark.parametrize(("amps", "most"), [(200, 250_000), (100, 125_000), (4000, 5_000_000), (1, 1250)])
def test_a_slot_carries_a_watt_hour_for_each_ampere_and_a_quarter_more(amps: int, most: int) -> None:
    limits = limits_of(amps, None)
    assert limits[RecordType.THROUGH] == limits[RecordType.GENERATION] == most


def test_a_level_is_judged_by_the_capacity_if_it_is_known_and_a_register_never() -> None:
    assert limits_of(200, 28_800_000)[RecordType.STORED] == 36_000_000
    assert RecordType.STORED not in limits_of(200, None)
    assert RecordType.REGISTER not in limits_of(200, 28_800_000)

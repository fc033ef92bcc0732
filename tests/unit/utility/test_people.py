"""The people who may act, and the second person."""

import pytest
from pydantic import ValidationError

from commonwatt.config.utility import BillingSettings
from commonwatt.model.exceptions import ConfigError
from utility.decisions.two_people import require_second
from utility.people import actor_of, person_of

TWO = BillingSettings(people=("anna", "ben"))


def test_people_listed_may_act_and_others_may_not() -> None:
    assert person_of(TWO, "anna") == "anna"
    with pytest.raises(ConfigError, match=r"--as eve: not in `people` .* which lists anna, ben"):
        person_of(TWO, "eve")
    with pytest.raises(ConfigError, match="lists nobody"):
        person_of(BillingSettings(), "anna")


def test_people_second_person_is_another_one() -> None:
    require_second(actor_of(TWO, "ben"), "anna", "proposed it")
    with pytest.raises(ConfigError, match="anna proposed it; a second person"):
        require_second(actor_of(TWO, "anna"), "anna", "proposed it")


def test_people_twice_in_the_list_is_refused() -> None:
    with pytest.raises(ValidationError, match="has anna twice"):
        BillingSettings(people=("anna", "anna"))

"""Which batteries share, and why, in words: as the page, the status and the console say it."""

from typing import Any

from commonwatt.protocol.sharing_words import Why, reason_of_code
from harness.surroundings.page import add_battery, add_unknown, decided, empty, words


def sharing_town() -> dict[str, Any]:
    view = empty()
    add_battery(view, "1", "house 1", 21)
    add_battery(view, "2", "house 2", 82)
    add_battery(view, "3", "house 3", 30.5)
    add_battery(view, "4", "house 4", 66)
    decided(view, unconfirmed=("4",))
    return view


def why(view: dict[str, Any]) -> dict[str, tuple[str, str]]:
    places = view["meter_states"]
    return {places[meter]["place"]: (one["role"], one["why"]) for meter, one in view["batteries"].items()}


def test_house_2_comes_before_house_10() -> None:
    view = empty()
    for n in (10, 2, 1):
        add_battery(view, str(n), f"house {n}", 20)
    assert words(view).startswith("house 1, house 2 and house 10 are below")


def test_who_shares_and_why_is_said_in_words() -> None:
    view = sharing_town()
    assert words(view) == "house 1 is below its minimum, so house 2 and house 4 share."
    said = why(view)
    assert said["house 1"] == ("receives", "Below its minimum.")
    assert said["house 2"] == ("gives", "Above its minimum, and another battery needs help.")
    assert said["house 3"] == ("rests", "Less than 1 % of its capacity above its minimum: too close to share.")
    assert "not confirmed the command yet" in said["house 4"][1]


def test_nobody_needs_help() -> None:
    view = sharing_town()
    view["batteries"]["1"]["level"] = view["batteries"]["2"]["level"]
    decided(view)
    assert words(view) == "No battery shares: none is below its minimum."
    assert why(view)["house 2"] == ("rests", "Above its minimum; no battery needs help.")


def test_nobody_can_help() -> None:
    view = empty()
    add_battery(view, "1", "house 1", 21)
    add_battery(view, "3", "house 3", 25)
    assert words(view).startswith("house 1 and house 3 are below the minimum, but no other battery")
    assert why(view)["house 1"] == ("receives", "Below its minimum, but no other battery can share.")


def test_a_battery_that_waits_for_help_and_help_that_has_begun_are_explained() -> None:
    view = empty()
    add_battery(view, "1", "house 1", 29.5)
    add_battery(view, "2", "house 2", 82)
    assert words(view) == (
        "No battery shares yet, though house 1 is below the minimum. "
        "Less than 1 % of its capacity below its minimum: help starts there."
    )
    assert why(view)["house 1"] == ("rests", "Less than 1 % of its capacity below its minimum: help starts there.")
    assert why(view)["house 2"] == ("rests", "Above its minimum; no battery needs help.")
    decided(view, sharing=("2",))
    assert words(view) == "house 1 is below its minimum, so house 2 shares."


def test_each_strategy_explains_itself() -> None:
    view = sharing_town()
    decided(view, strategy="rangers")
    assert why(view)["house 2"][0] == "gives"
    said = "Above its minimum; batteries that already share give first, then larger surpluses."
    assert why(view)["house 4"] == ("rests", said)
    decided(view, strategy="aces")
    assert why(view)["house 1"] == ("rests", "Below its minimum; help starts when a battery is empty.")
    view["batteries"]["1"]["level"] = 11 * 10**6
    decided(view)
    assert why(view)["house 1"] == ("out", "Its meter reports a level that its battery can't have.")


def test_a_battery_whose_level_can_not_be_says_why() -> None:
    view = sharing_town()
    add_battery(view, "5", "house 5", 90, available=False)
    view["batteries"]["5"] |= {"role": "out", "why": reason_of_code(Why.FROZEN, 0).why}
    assert why(view)["house 5"] == ("out", reason_of_code(Why.FROZEN, 0).why)
    assert words(view).endswith("1 battery can't take part.")


def test_batteries_that_are_ready_to_share_without_the_utility_say_so() -> None:
    view = empty()
    add_battery(view, "1", "house 1", 90)
    view["batteries"]["1"]["role"] = "gives"
    why_ready = "the utility does not answer, or help began less than 5 minutes ago"
    assert words(view) == f"house 1 is ready to share: {why_ready}."


def test_a_battery_without_level_or_minimum_says_why() -> None:
    view = empty()
    add_unknown(view, "5", "house 5", Why.NO_LEVEL)
    assert why(view)["house 5"] == ("out", reason_of_code(Why.NO_LEVEL, 0).why)
    assert "not known or too old" in words(view)


def test_many_batteries_are_named_by_number() -> None:
    view = empty()
    for n in range(40):
        add_battery(view, str(100 + n), f"house {n:02d}", 20 if n < 5 else 80)
    assert "house 00, house 01 and 3 other batteries" in words(view)

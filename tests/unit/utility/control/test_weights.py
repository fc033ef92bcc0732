"""A household's sharing weight has a date and a history, and controllers receive each weight once, in time."""

import json
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonwatt.model.exceptions import ConfigError
from commonwatt.protocol.controller_commands import ControllerCommand
from gateway.control.microgrid_states import MicrogridStates
from harness.surroundings import databases
from tests.unit.utility.control.test_changes import answer
from utility.control.commands import AHEAD, Weighting, to_tell
from utility.control.store import set_weight, wanted_weights
from utility.database.database import Database
from utility.outbox.store import AGAIN_S, open_commands, tell
from utility.outbox.tables import command
from utility.registry.accounts import Dated, weight_at
from utility.registry.store.accounts import changes_of, load_dated_registry, load_for_change, save_dated_registry

NOW = 1_800_000_000
THEN = NOW // 900 + 40


@databases.on_both_kinds
def test_a_weight_holds_from_its_date_and_is_kept_with_its_person(database: Database) -> None:
    with database.reads.begin() as connection:
        before = load_dated_registry(connection)
    with database.writes.begin() as connection:
        set_weight(connection, 1, 3, THEN + 400, "eve", NOW)
        was, now = set_weight(connection, 1, 2, THEN, "eve", NOW)
    assert was.weights == (Dated(start=THEN + 400, value=Decimal(3)),)
    assert [weight_at(now, quarter) for quarter in (THEN - 1, THEN, THEN + 400)] == [1, 2, 2], "later ones are dropped"
    with database.reads.begin() as connection:
        after = load_dated_registry(connection)
        (newest, _) = changes_of(connection, ["account 1"], 9)
    assert after.accounts == dict(before.accounts) | {1: now}
    assert after.meters == before.meters
    assert after.revision > before.revision, "the running service loads it"
    assert (newest["person"], newest["time"]) == ("eve", NOW)
    assert "weight 2 from" in newest["after"]


@pytest.mark.parametrize(
    ("number", "weight", "start", "fault"),
    [
        (1, 0, THEN, "weight: 0 is no whole number from 1 to 1000"),
        (1, 1001, THEN, "weight: 1001 is no whole number"),
        (1, 2, NOW // 900, "from: this time is over"),
        (1, 2, THEN + 400 * 96, "from: this is more than a year ahead"),
        (99, 2, THEN, "account 99: there is none"),
    ],
)
def test_a_wrong_weight_changes_nothing(database: Database, number: int, weight: int, start: int, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault), database.writes.begin() as connection:
        set_weight(connection, number, weight, start, "eve", NOW)
    with database.reads.begin() as connection:
        assert all(not account.weights for account in load_dated_registry(connection).accounts.values())


QUARTER = NOW // 900


def run(database: Database, now: int) -> list[dict[str, Any]]:
    """Tell what is wanted; return the commands that wait."""
    with database.writes.begin() as connection:
        tell(connection, wanted_weights(connection, now), now)
        return [json.loads(each.message) for each in open_commands(connection)]


def weigh(database: Database, account: int, weight: int, start: int) -> None:
    with database.writes.begin() as connection:
        set_weight(connection, account, weight, start, "eve", NOW)


@databases.on_both_kinds
def test_a_weight_is_told_before_its_date_and_once(database: Database) -> None:
    assert run(database, NOW) == []
    begin = QUARTER + AHEAD + 4
    weigh(database, 1, 3, begin)
    assert run(database, NOW) == [], "not yet: it may change"
    (message,) = run(database, NOW + 3600)
    assert (message["cmd"], message["from_time"]) == ("sharing", begin * 900)
    (meter, weight) = next(iter(message["weights"].items()))
    assert (weight, "strategy" in message) == (3, False)
    assert run(database, NOW + 7200) == [message], "unanswered, it is sent again, not made again"
    answer(database)
    assert run(database, begin * 900 + 60) == []
    weigh(database, 2, 5, begin + 8)
    (second,) = run(database, begin * 900 + 60)
    assert second["weights"].pop(meter) == 3, "those of all members, each time"
    assert list(second["weights"].values()) == [5]


def test_an_earlier_date_replaces_what_was_told_for_later(database: Database) -> None:
    weigh(database, 1, 3, QUARTER + 100)
    run(database, NOW)
    answer(database)
    weigh(database, 1, 2, QUARTER + 50)
    (message,) = run(database, NOW)
    assert (message["from_time"], *message["weights"].values()) == ((QUARTER + 50) * 900, 2)


def test_a_weight_ends_with_a_move_and_is_told_anew_when_a_command_was_lost_or_refused(database: Database) -> None:
    weigh(database, 1, 3, QUARTER + 1)
    with database.writes.begin() as connection:
        before = load_for_change(connection)
        meters = {
            i: replace(m, holdings=tuple(replace(h, end=QUARTER + 40 if h.account == 1 else h.end) for h in m.holdings))
            for i, m in before.meters.items()
        }
        save_dated_registry(connection, before, replace(before, meters=meters), "anna", NOW, ZoneInfo("UTC"))
    (first,) = run(database, NOW)
    assert (first["weights"], first["from_time"]) == ({"10001": 3}, (QUARTER + 1) * 900)
    begun = (QUARTER + 1) * 900 + 60
    with database.writes.begin() as connection:
        connection.execute(command.update().values(state="expired"))
    (again,) = run(database, begun)
    assert (again["weights"], "from_time" in again) == ({"10001": 3}, False), "it may have others: from now on"
    answer(database)
    (back,) = run(database, begun)
    assert (back["weights"], back["from_time"]) == ({}, (QUARTER + 40) * 900), "each has 1 again"
    answer(database, "refused")
    assert run(database, begun + 300) == []
    (anew,) = run(database, begun + AGAIN_S)
    assert (anew["weights"], "from_time" in anew) == ({}, False)


class Gateway:
    """What a gateway keeps of weights, as its own code does."""

    def __init__(self) -> None:
        self.states = MicrogridStates()

    def hear(self, new: Weighting, now: int) -> None:
        begin = new.since * 900
        fields = {"weights": new.weights, "from_time": begin if begin > now else None}
        message = ControllerCommand.model_validate({"id": "w", "cmd": "sharing", "until": now + 60, **fields})
        self.states = self.states.set(message, now)

    def weights(self, now: int) -> dict[str, int]:
        return {str(meter): weight for meter, weight in self.states.weights_at(now).items()}


PLANS = st.lists(st.tuples(st.integers(1, 40), st.dictionaries(st.sampled_from("123"), st.integers(1, 9))), max_size=4)


def sequence(plan: Sequence[tuple[int, dict[str, int]]], now: int) -> list[Weighting]:
    """Return the weights in force now and those to come, of a plan."""
    dated = dict(sorted(dict(plan).items()))
    present = [weights for quarter, weights in dated.items() if quarter <= now]
    found = [Weighting(since=now, weights=present[-1] if present else {})]
    for quarter, weights in dated.items():
        if quarter > now and weights != found[-1].weights:
            found.append(Weighting(since=quarter, weights=weights))
    return found


@given(plans=st.lists(PLANS, min_size=1, max_size=4))
def test_a_gateway_has_the_weights_of_the_plan_at_all_times_however_it_changes(
    plans: list[list[tuple[int, dict[str, int]]]],
) -> None:
    gateway, told = Gateway(), list[Weighting]()
    for now in range(45):
        plan = plans[min(now // 12, len(plans) - 1)]
        for _ in range(4):
            new = to_tell(told, sequence(plan, now), now)
            if new is None:
                break
            gateway.hear(new, now * 900 + 5)
            told = [*(one for one in told if one.since < new.since), new]
        else:
            raise AssertionError("it is sent again and again")
        assert gateway.weights(now * 900 + 5) == sequence(plan, now)[0].weights

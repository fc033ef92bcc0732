"""A household's sharing weight has a date, keeps its history, and changes nobody else's."""

from decimal import Decimal

import pytest

from commonwatt.model.exceptions import ConfigError
from harness.real import databases
from utility.control.store.weights import set_weight
from utility.database.database import Database
from utility.registry.accounts import Dated
from utility.registry.store.accounts import changes_of, load_dated_registry
from utility.registry.weights import weight_at

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

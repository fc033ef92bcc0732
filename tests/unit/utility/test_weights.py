"""A household's sharing weight has a date, keeps its history, and changes nobody else's."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from commonwatt.model.exceptions import ConfigError
from commonwatt.protocol.controller_commands import Action
from harness.real import databases
from utility.commands.changes import Asked, Chosen
from utility.commands.changing import make_change
from utility.jobs.calendar_periods import Period
from utility.jobs.weights import WeightsJob, weights_to_tell
from utility.people import on_machine
from utility.registry.accounts import Dated
from utility.registry.weights import weight_at
from utility.store.accounts import changes_of, load_dated_registry, load_for_change, save_dated_registry
from utility.store.database import Database
from utility.store.job_leases import Turn
from utility.store.open_commands import open_commands
from utility.store.tables import command
from utility.store.weights import set_weight

kind = databases.both_kinds

NOW = 1_800_000_000
THEN = NOW // 900 + 40


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


def told(database: Database, now: int) -> dict[str, dict[str, int]]:
    """Tell gateways what they were not told yet, as the job does; return it."""

    async def at_once(work: Callable[..., Any], *arguments: Any) -> Any:
        return work(*arguments)

    found = weights_to_tell(database, now)
    period = Period(start=now, end=now + 300, name="x")
    turn = Turn(job="weights", period=period, attempt=1, now=now)
    asyncio.run(WeightsJob(database, in_thread=at_once, writing=at_once).run(turn))
    return {name: dict(weights) for name, weights in found.items()}


def test_gateways_are_told_weights_from_their_date_on_and_once(database: Database) -> None:
    then = THEN * 900
    with database.writes.begin() as connection:
        set_weight(connection, 1, 3, THEN, "eve", NOW)
        set_weight(connection, 4, 2, THEN + 8, "bob", NOW)
    assert told(database, then - 1) == {}, "not before its date"
    assert told(database, then) == {"r001": {"10001": 3}}
    assert told(database, then + 300) == {}, "once"
    assert told(database, then + 8 * 900) == {"r002": {"20003": 2}}
    with database.reads.begin() as connection:
        messages = [json.loads(one.message) for one in open_commands(connection)]
    assert [(one["cmd"], one["weights"]) for one in messages] == [
        ("sharing", {"10001": 3}),
        ("sharing", {"20003": 2}),
    ]
    assert all("strategy" not in one for one in messages), "the operator's strategy stays"


def test_weights_are_told_again_when_the_command_expired_and_not_when_an_operator_changed_them(
    database: Database,
) -> None:
    then = THEN * 900
    with database.writes.begin() as connection:
        set_weight(connection, 1, 3, THEN, "eve", NOW)
    assert told(database, then) != {}
    by_operator = Asked(
        action=Action.SHARING, fields={"weights": {"10003": 9}}, chosen=Chosen(microgrids=("r001",)), valid_s=3600
    )
    make_change(database, on_machine("olga"), by_operator, then + 300)
    assert told(database, then + 600) == {}, "the operator's weights hold"
    with database.writes.begin() as connection:
        set_weight(connection, 1, 4, THEN + 8, "eve", then + 600)
    assert told(database, then + 8 * 900) == {"r001": {"10001": 4}}, "until a resident's next change"
    with database.writes.begin() as connection:
        connection.execute(command.update().values(state="expired"))
    assert told(database, then + 9 * 900) == {"r001": {"10001": 4}}


def test_weight_of_who_moved_out_ends_with_the_move(database: Database) -> None:
    with database.writes.begin() as connection:
        set_weight(connection, 1, 3, THEN, "eve", NOW)
        before = load_for_change(connection)
        meters = {
            i: replace(m, holdings=tuple(replace(h, end=THEN + 4 if h.account == 1 else h.end) for h in m.holdings))
            for i, m in before.meters.items()
        }
        save_dated_registry(connection, before, replace(before, meters=meters), "anna", NOW, ZoneInfo("UTC"))
    assert told(database, THEN * 900) == {"r001": {"10001": 3}}
    assert told(database, (THEN + 4) * 900) == {"r001": {}}, "the gateway's file holds again"
    assert told(database, (THEN + 5) * 900) == {}

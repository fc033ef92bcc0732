"""A bill, a decision, a purchase or a batch whose COMMIT has no answer is there once, when all have tried again."""

import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy import Table, func, select
from sqlalchemy.exc import OperationalError

from commonwatt.model.effects import Publish
from commonwatt.protocol.controller_commands import Action
from commonwatt.protocol.plant_messages import PlantAction, PlantCommand
from commonwatt.runtime.clock import Clock
from harness.billing.worlds import MONTH, found_in_store, tariff, world_of
from harness.real.postgres import Fate, Line
from harness.surroundings.messages import batch, blocks, ingest_of
from utility.access.people import on_machine
from utility.billing.decisions import draft
from utility.billing.store.runs import check_run, issue_run
from utility.billing.tables import bill, bill_run
from utility.control.changes import AskedChange, NewerChangeError
from utility.control.decisions import make_change
from utility.database.checks import is_unknown
from utility.database.database import Database
from utility.outbox.tables import command, purchase
from utility.readings.store import reads
from utility.supply.store import NewPurchase, add_purchase
from utility.tariffs import store as tariffs

pytestmark = [pytest.mark.real, pytest.mark.parametrize("fate", list(Fate))]

NOW = 1_800_000_000
CLOCK = Clock(origin=NOW, monotonic_origin=0, speed=0)
ANNA = on_machine("anna")


@pytest.fixture
def kind() -> str:
    return "postgresql"


def count(database: Database, table: Table) -> int:
    with database.reads.begin() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def again(line: Line, fate: Fate, table: Table, do: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do something whose answer is lost, and once more if that failed, as its caller does."""
    line.lose(table.name, fate, monkeypatch)
    if fate is not Fate.FOUND:
        with pytest.raises(OperationalError) as raised:
            do()
        assert is_unknown(raised.value) == (fate is Fate.UNKNOWN)
    do()


def test_bills_are_made_and_issued_once(
    line: Line, database: Database, fate: Fate, monkeypatch: pytest.MonkeyPatch
) -> None:
    found_in_store(monkeypatch, world_of())
    with database.writes.begin() as connection:
        stored = tariffs.propose(connection, tariff(), "", "anna", 0)
        tariffs.publish(connection, stored.name, stored.version, "ben", 0)
    numbers = []
    again(line, fate, bill, lambda: numbers.append(draft(line.database, MONTH, "town", ANNA, NOW)), monkeypatch)
    number, bills = numbers[-1]
    assert count(database, bill_run) == 1
    assert count(database, bill) == len(bills.billed) > 0
    with database.writes.begin() as connection:
        check_run(connection, number, "ben", NOW)

    def issue() -> None:
        with line.database.writes.begin() as connection:
            if connection.execute(select(bill_run.c.state)).scalar_one() == "checked":
                issue_run(connection, number, "eve", NOW)

    again(line, fate, bill_run, issue, monkeypatch)
    with database.reads.begin() as connection:
        assert connection.execute(select(bill_run.c.state, bill_run.c.issued_by)).all() == [("issued", "eve")]


def test_a_change_of_gateways_is_made_once(
    line: Line, database: Database, fate: Fate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person who was told to look repeats the form of before, which names the newest change that it showed."""
    asked = AskedChange(action=Action.SCHEDULE, fields={"periods": {"relay_s": 120}}, everyone=True, at=None, seen=0)
    refused = []

    def do() -> None:
        try:
            make_change(line.database, ANNA, asked, NOW)
        except NewerChangeError:
            refused.append(1)

    again(line, fate, command, do, monkeypatch)
    assert count(database, command) == 2, "one for each of two gateways"
    assert bool(refused) == (fate is Fate.UNKNOWN)


def test_a_quarter_hour_is_bought_for_once(
    line: Line, database: Database, fate: Fate, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = iter("ab")  # a plan made anew has another id

    def do() -> None:
        buy = PlantCommand(
            id=f"buy-1-{next(tries)}", cmd=PlantAction.PURCHASE, until=NOW, quarter=1, energy_mwh=5, keep_mwh=0
        )
        with line.database.writes.begin() as connection:
            add_purchase(
                connection, NewPurchase(command=buy, energy=5, price=1, policy="spec", reason="", inputs={}), NOW
            )

    again(line, fate, purchase, do, monkeypatch)
    with database.reads.begin() as connection:
        (bought,) = connection.execute(select(purchase.c.id)).scalars()
    assert bought == ("buy-1-b" if fate is Fate.REFUSED else "buy-1-a")


def test_a_batch_is_stored_once_and_acknowledged_only_when_it_is(
    line: Line, database: Database, fate: Fate, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Publish] = []
    message = "cw1/r001/u/batch", batch(blocks({7: 70})).pack()

    async def play() -> None:
        ingest = ingest_of(line.database, CLOCK, sent.append)
        await ingest.take_in([("cw1/r001/u/batch", batch(blocks({6: 60})).pack())])
        acknowledged = len(sent)
        line.lose("batch", fate, monkeypatch)
        await ingest.take_in([message])
        assert len(sent) - acknowledged == (fate is Fate.FOUND)
        await ingest.take_in([message])  # A gateway without an acknowledgement sends it again; twice does no harm.
        assert len(sent) - acknowledged == 1 + (fate is Fate.FOUND)
        ingest.close()

    asyncio.run(play())
    (joined,) = reads.all_blocks(database, 0, 2**31 - 1)
    assert {slot: int(joined.values[0][slot]) for slot in range(60) if joined.quality[0][slot]} == {6: 60, 7: 70}

"""A published price that was wrong: corrected back in time by two people, billed as corrections that say why (U2)."""

import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from commonwatt.model.exceptions import ConfigError
from harness.billing.worlds import KWH, ZONE, World, late, tariff, world_of
from harness.console import Browser, text_of
from tests.unit.utility.billing.test_billing import Command, _people, _world, issued, publish
from tests.unit.utility.billing.test_bills import issued as month_of
from tests.unit.utility.billing.test_bills import stored
from tests.unit.utility.billing.test_check_bill import _checker, faults
from tests.unit.utility.tariffs.test_pages import SOURCE, form_in
from utility.access.people import Role
from utility.billing.bill import LineKind
from utility.billing.store.documents import documents_of_run
from utility.billing.stored_run import computed, unpack_run
from utility.database.database import Database
from utility.energy.quarters import Quantity
from utility.tariffs import store as tariffs
from utility.tariffs.file import Reminder
from utility.tariffs.tariff import Tariff, in_force, rates_of, tariff_of

Browsers = Callable[..., Browser]
people, world, checker = _people, _world, _checker
kind = pytest.fixture(lambda: "sqlite")

NOW = 1_800_000_000  # 15 January 2027
WHY = "the peak price had a slip of a digit"
CHEAPER = (("peak", "0.22", "0.16"), ("off-peak", "0.10", "0.10"))


def correcting(version: int = 2, effective: str = "2026-10-01", **more: Any) -> Tariff:
    """Return a version with lower prices that corrects published ones."""
    content = json.loads(tariff("town", version, effective, prices=CHEAPER, **more).canonical())
    content["tariff"]["corrects"] = WHY
    return tariff_of(json.dumps(content))


def at(versions: list[Tariff], *days: str) -> list[int]:
    """Return the version in force on each day."""
    quarters = [tariff(effective=day).effective for day in days]
    return [found.version if (found := in_force(versions, quarter)) else 0 for quarter in quarters]


def test_a_correction_holds_until_the_next_version_that_begins_later() -> None:
    first, second = tariff(effective="2026-01-01"), tariff(version=2, effective="2026-06-01")
    days = ("2026-02-01", "2026-04-01", "2026-07-01")
    assert at([first, second, correcting(3, "2026-03-01")], *days) == [1, 3, 2]
    assert at([first, second, correcting(3, "2026-01-01")], *days) == [3, 3, 2]
    assert at([first, second, correcting(3, "2026-06-01")], *days) == [1, 1, 3]
    both = [first, second, correcting(3, "2026-03-01"), correcting(4, "2026-06-01")]
    assert at(both, *days) == [1, 3, 4]


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (correcting(effective="2025-12-31"), "before 2026-01: only the bills of 12 months are corrected"),
        (correcting(effective="2027-03-01"), "after all that it could correct, so it is no correction"),
        (correcting(policy={"name": "spec", "vacant": "occupied"}), "it has another policy than what it corrects"),
        (tariff(effective="2026-10-01"), "it begins in the past, for which another was published"),
    ],
)
def test_a_correction_that_reaches_too_far_is_refused(database: Database, new: Tariff, words: str) -> None:
    publish(database, tariff(effective="2025-06-01"))
    with database.writes.begin() as connection, pytest.raises(ConfigError, match=words):
        tariffs.propose(connection, new, "", "anna", NOW)


def test_households_read_why_their_bill_is_corrected(
    people: Command, database: Database, world: World, checker: ModuleType
) -> None:
    publish(database, tariff())
    first = issued(database, people, "2026-10")
    publish(database, correcting())
    run = issued(database, people, "2026-11")
    documents = documents_of_run(database, run, None)
    account = min(documents.bills)
    bill = documents.bill(account)
    (line,) = [line for line in bill.lines if line.kind is LineKind.CORRECTION]
    energy = sum(line.energy or 0 for line in bill.lines if line.kind is LineKind.IMPORT)
    assert (line.month, line.reason) == ("2026-10", f"prices of town v2: {WHY}")
    october = documents_of_run(database, first, None)
    was = october.bill(account)
    taken = sum(line.energy or 0 for line in was.lines if line.kind is LineKind.IMPORT)
    assert line.amount == -round(Decimal(taken) / KWH / 10, 2), "ten cents a kWh less"
    assert energy
    assert (was.tariff, bill.tariff) == (("town v1",), ("town v2",)), "an issued bill stays with its tariff"
    for each in (october, documents):
        assert faults(checker, json.loads(json.dumps(each.receipt(account)))) == []


def test_a_correction_of_prices_is_billed_once_and_late_data_says_both() -> None:
    world = world_of()
    october = computed(stored(world, "2026-10"), world.load)
    inputs = replace(world.inputs, tariffs=(*world.inputs.tariffs, correcting()))
    corrected = replace(world, inputs=inputs)
    account = late(world, Quantity.IMPORTED, 10 * KWH)
    run = stored(corrected, earlier=(month_of(october, "2026-10"),))
    made = computed(unpack_run(run.pack()), world.load)
    reasons = {n: [x.reason for x in b.bill.lines if x.kind is LineKind.CORRECTION] for n, b in made.billed.items()}
    assert reasons.pop(account)[0].startswith(
        f"prices of town v2: {WHY}; computed again with what is known now: import"
    )
    assert {reason for (reason,) in reasons.values()} == {f"prices of town v2: {WHY}"}
    known = replace(month_of(computed(stored(corrected, "2026-10"), world.load), "2026-10"), corrects=("town v2",))
    later = unpack_run(stored(corrected, earlier=(known,)).pack())
    assert later.earlier[0].corrects == ("town v2",)
    again = late(world, Quantity.IMPORTED, 10 * KWH)
    lines = [line for line in computed(later, world.load).billed[again].bill.lines if line.kind is LineKind.CORRECTION]
    assert [line.reason.split(":")[0] for line in lines] == ["computed again with what is known now"]


def test_controllers_are_told_a_correction_though_a_later_version_follows() -> None:
    zone = ZoneInfo(ZONE)
    before = [tariff(effective="2026-01-01"), tariff(version=2, effective="2026-12-15")]
    told = rates_of(before, "2026-11", zone)
    after = rates_of([*before, correcting(3, "2026-10-01")], "2026-11", zone)
    assert told is not None
    assert after is not None
    assert (told.version, after.version) == (2, 3), "a new version is sent, and newer to the controller"
    assert after.prices[0][1] in ("0.10", "0.22")
    past = rates_of([*before, correcting(3, "2026-10-01")], "2027-01", zone)
    assert past is not None
    assert past.version == 2


def test_a_correction_with_taxes_goes_through_the_form_and_its_page_says_so(browser: Browsers, world: World) -> None:
    anna, ben = browser(Role.CLERK, name="anna"), browser(Role.APPROVER, name="ben")
    taxes = '\n[[tax]]\nname = "VAT"\npercent = "20"\n'
    anna.post("/console/rates/new", {"action": "propose", "source": SOURCE + taxes})
    assert ben.post("/console/rates/version/town/1/approve").status_code == 303
    text = SOURCE.replace('base = "12.00"', 'base = "11.00"\ncorrects = "a slip"') + taxes
    form = form_in(anna.post("/console/rates/new", {"action": "form", "source": text}).text)
    assert (form["corrects"], form["effective"]) == ("a slip", "2026-10-01"), "a text keeps its date"
    written = anna.post("/console/rates/form", {**form, "action": "text"}).text
    assert "corrects = &#34;a slip&#34;" in written
    assert "percent = &#34;20&#34;" in written
    made = anna.post("/console/rates/new", {"action": "propose", "source": text})
    assert made.status_code == 303, text_of(made)
    page = text_of(ben.get(made.headers["location"]))
    assert "Published prices, back in time: a slip" in page
    assert "20 %" in page
    assert ben.post("/console/rates/version/town/2/approve").status_code == 303
    again = form_in(anna.get("/console/rates/new?name=town&version=2").text)
    assert (again["corrects"], again["effective"] > "2027-01-01") == ("", True), "new prices from these correct nothing"


def test_a_reminder_costs_whole_cents() -> None:
    assert Reminder.model_validate({"days": 14, "fee": "4.50"}).fee == Decimal("4.50")
    with pytest.raises(ValidationError, match="no more than 2 decimal places"):
        Reminder.model_validate({"days": 14, "fee": "4.505"})

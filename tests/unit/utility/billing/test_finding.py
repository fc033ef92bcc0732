"""Accounts are found by number, by place and by the name of a person."""

from commonwatt.town.town import Town
from harness.console import Browser
from tests.unit.utility.conftest import NOW
from utility.access.roles import Role
from utility.billing.store.finding import find_accounts
from utility.database.database import Database


def test_an_account_is_found_by_number_place_or_name(database: Database, town: Town, app: object) -> None:
    home = next(meter for meter in town.meters if meter.account)
    Browser(app, Role.RESIDENT, name="zelda", account=home.account)  # type: ignore[arg-type]

    def found(text: str) -> list[int]:
        with database.reads.begin() as connection:
            return [each.account for each in find_accounts(connection, text, NOW // 900)]

    assert found(str(home.account)) == [home.account]
    assert found("Zelda") == [home.account]
    assert home.account in found(home.location.upper())
    with database.reads.begin() as connection:
        (one,) = find_accounts(connection, "zel", NOW // 900)
    assert home.location in one.place
    assert one.people == "Zelda"
    assert found("%") == found("_") == found("no such place") == found(" ") == []

"""One account's part of the registry: what its page, bill and files read in place of the whole town."""

import pytest

from harness.real import databases
from utility.database.database import Database
from utility.registry.accounts import DatedRegistry
from utility.registry.store.accounts import load_dated_registry, load_registry_around


@databases.on_both_kinds
def test_an_account_comes_with_its_whole_microgrid_and_nothing_else(database: Database) -> None:
    with database.reads.begin() as connection:
        whole, around = load_dated_registry(connection), load_registry_around(connection, 3)
    its = whole.meters[20001].microgrid
    assert around.meters == {i: meter for i, meter in whole.meters.items() if meter.microgrid == its}
    assert around.accounts == {number: whole.accounts[number] for number in (3, 4)}
    assert around.revision == whole.revision


@pytest.mark.parametrize("number", [99, 0, -1])
def test_an_unknown_account_has_no_part(database: Database, number: int) -> None:
    with database.reads.begin() as connection:
        found = load_registry_around(connection, number)
    assert found == DatedRegistry(revision=found.revision)

"""Sets the sharing weight of an account from a date on."""

from dataclasses import replace

from sqlalchemy import Connection

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import AccountNumber, EpochSeconds, Quarter
from utility.database.locks import Lock, take
from utility.database.town_zone import zone_of
from utility.registry.accounts import Account
from utility.registry.store.accounts import load_registry_around, save_dated_registry
from utility.registry.weights import check_weight, with_weight


def set_weight(
    connection: Connection, number: AccountNumber, weight: int, start: Quarter, person: str, now: EpochSeconds
) -> tuple[Account, Account]:
    """Set an account's weight from a quarter on, with the registry's own audit; return the account before and after.

    Args:
        connection: A transaction that writes.
        weight: The weight, 1 to 1000; weights that were to begin later are dropped.
        start: The first quarter.
        person: The person who sets it.

    Raises:
        ConfigError: There is no such account, or weight or date are wrong; nothing was changed.
    """
    check_weight(weight, start, now)
    take(connection, Lock.REGISTRY)
    before = load_registry_around(connection, number)
    if number not in before.accounts:
        raise ConfigError(f"account {number}: there is none")
    was = before.accounts[number]
    new = with_weight(was, weight, start)
    after = replace(before, accounts=dict(before.accounts) | {number: new})
    save_dated_registry(connection, before, after, person, now, zone_of(connection))
    return was, new

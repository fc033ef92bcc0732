"""The sharing weights of accounts: set with a date, in force now by meter, and as their gateways were told (T6, K5)."""

import json
from collections.abc import Mapping
from dataclasses import replace

from sqlalchemy import Connection, func, select

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import AccountNumber, EpochSeconds, MicrogridId, Quarter
from commonwatt.protocol.controller_commands import Action
from commonwatt.town.town import Direction
from utility.commands.settings import WEIGHTS
from utility.registry.accounts import Account
from utility.registry.weights import check_weight, with_weight
from utility.store.accounts import load_registry_around, lock_registry, save_dated_registry, zone_of
from utility.store.checks import sound_rows
from utility.store.parts import chunks
from utility.store.reads import town
from utility.store.tables import account_term, command, control_change, control_target, holding, meter

SERVICE = "the service"
"""The person of changes that tell gateways the weights of accounts: no person can have this name."""

ByMeter = Mapping[str, int]
"""Weights by the id of the battery's meter, as commands have them."""

_WAITS_OR_DONE = ("open", "done", "superseded")
"""States of a command that needs no other: superseded is one that a person's later change replaced."""


def set_weight(
    connection: Connection, number: AccountNumber, weight: int, start: Quarter, person: str, now: EpochSeconds
) -> tuple[Account, Account]:
    """Set an account's weight from a quarter on, with the registry's own audit; return the account before and after.

    Args:
        connection: A transaction that writes.
        number: The account.
        weight: The weight, 1 to 1000; weights that were to begin later are dropped.
        start: The first quarter.
        person: The person who sets it.
        now: The time.

    Raises:
        ConfigError: There is no such account, or weight or date are wrong; nothing was changed.
    """
    check_weight(weight, start, now)
    lock_registry(connection)
    before = load_registry_around(connection, number)
    if number not in before.accounts:
        raise ConfigError(f"account {number}: there is none")
    was = before.accounts[number]
    new = with_weight(was, weight, start)
    after = replace(before, accounts=dict(before.accounts) | {number: new})
    save_dated_registry(connection, before, after, person, now, zone_of(town(connection)))
    return was, new


def weights_in_force(connection: Connection, quarter: Quarter) -> dict[MicrogridId, dict[str, int]]:
    """Return the weights that accounts have in a quarter, by microgrid and by the meters of their batteries.

    A microgrid without any is absent: what its gateway's file says holds there.

    Raises:
        DamagedError: A row is damaged.
    """
    rows = sound_rows(connection, account_term, account_term.c.what == "weight")
    by_account = {row.account: row.value for row in rows if row.since <= quarter}
    found: dict[MicrogridId, dict[str, int]] = {}
    held = (holding.c.since <= quarter) & (holding.c.until.is_(None) | (holding.c.until > quarter))
    gives = meter.c.battery_capacity.is_not(None) & (meter.c.direction == Direction.OUTGOING.value)
    statement = select(meter.c.microgrid, meter.c.label, holding.c.account)
    statement = statement.join(holding, holding.c.meter == meter.c.id).where(held, gives).order_by(meter.c.no)
    for some in chunks(sorted(by_account)):
        for row in connection.execute(statement.where(holding.c.account.in_(some))):
            found.setdefault(row.microgrid, {})[row.label] = int(by_account[row.account])
    return found


def weights_told(connection: Connection) -> dict[MicrogridId, dict[str, int]]:
    """Return the weights that the service told each gateway last, unless the command expired without an answer."""
    t, c = control_target.c, control_change.c
    newest = select(t.controller, func.max(t.change_no).label("no")).join(control_change, c.no == t.change_no)
    ours = newest.where(c.person == SERVICE, c.action == Action.SHARING.value).group_by(t.controller).subquery()
    statement = select(t.controller, t.fields).join(
        ours, (ours.c.controller == t.controller) & (ours.c.no == t.change_no)
    )
    statement = statement.join(command, command.c.id == t.command).where(command.c.state.in_(_WAITS_OR_DONE))
    return {row.controller: json.loads(row.fields)[WEIGHTS] for row in connection.execute(statement)}

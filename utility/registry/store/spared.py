"""Statements of places that must not be cut, and the commands that tell gateways of them."""

import json
from secrets import token_hex
from typing import Any

from sqlalchemy import Connection, Row, select

from commonwatt.model.ids import MeterId
from commonwatt.model.units import AccountNumber, EpochSeconds, MicrogridId, Quarter, quarter_of
from commonwatt.protocol.controller_commands import Action, ControllerCommand
from utility.database.database import upsert
from utility.outbox.store.commands import send
from utility.outbox.tables import command
from utility.registry.tables import holding, installed, meter, spared_place

SENT_S = 86_400  # seconds for which a command is sent until it is answered; then it is given again
# Seconds after which a gateway is told again: it may have been replaced or restored, or have refused or not known it.
AGAIN_S = 6 * 3600


def spared_places(connection: Connection) -> dict[AccountNumber, Row[Any]]:
    """Return the accounts of which anything was ever asked, by number, with what is decided and asked."""
    return {row.account: row for row in connection.execute(select(spared_place).order_by(spared_place.c.account))}


def ask(connection: Connection, account: AccountNumber, person: str, now: EpochSeconds, *, wanted: bool) -> None:
    """Store what a person asks for, in place of what was asked before."""
    row = {"account": account, "is_spared": False, "wanted": wanted, "asked_by": person, "asked": now}
    connection.execute(upsert(connection, spared_place, "wanted", "asked_by", "asked"), [row])


def decide(connection: Connection, found: Row[Any], person: str, now: EpochSeconds, *, agrees: bool) -> None:
    """Store what the second person decided."""
    values = {"is_spared": found.wanted if agrees else found.is_spared, "wanted": None}
    ours = spared_place.c.account == found.account
    connection.execute(spared_place.update().where(ours).values(values | {"decided_by": person, "decided": now}))


def meters_of(connection: Connection, quarter: Quarter) -> dict[MicrogridId, dict[MeterId, AccountNumber]]:
    """Return the meters of the places that must not be cut, with their accounts, by microgrid."""
    c, i = holding.c, installed.c
    statement = (
        select(meter.c.microgrid, meter.c.id, c.account)
        .join(holding, c.meter == meter.c.id)
        .join(spared_place, spared_place.c.account == c.account)
        .outerjoin(installed, i.meter == meter.c.id)
        .where(spared_place.c.is_spared, c.since <= quarter, c.until.is_(None) | (c.until > quarter))
        .where(i.until.is_(None) | (i.until > quarter))
        .order_by(meter.c.microgrid, meter.c.id)
    )
    found: dict[MicrogridId, dict[MeterId, AccountNumber]] = {}
    for row in connection.execute(statement):
        found.setdefault(row.microgrid, {})[row.id] = row.account
    return found


def to_tell(connection: Connection, now: EpochSeconds) -> dict[MicrogridId, list[MeterId]]:
    """Return the meters to tell gateways that were not told of them, not lately, or have not answered in time."""
    wanted = {name: sorted(meters) for name, meters in meters_of(connection, quarter_of(now)).items()}
    c, told = command.c, dict[MicrogridId, tuple[bool, list[MeterId]]]()
    ours = select(c.controller, c.state, c.result, c.message, c.created).where(c.id.like("spare-%"))
    for row in connection.execute(ours.order_by(c.created, c.id)):
        meters = [int(each) for each in json.loads(row.message)["spared"]]
        is_old = row.state != "open" and row.created + AGAIN_S <= now and (meters or row.result != "done")
        told[row.controller] = row.state == "expired" or bool(is_old), meters
    return {
        name: meters
        for name in sorted(wanted.keys() | told.keys())
        for meters, (again, last) in [(wanted.get(name, []), told.get(name, (False, [])))]
        if meters != last or again
    }


def tell(connection: Connection, now: EpochSeconds) -> None:
    """Store the commands that are to be told; the service sends each until it is answered."""
    for name, meters in to_tell(connection, now).items():
        message = ControllerCommand(
            id=f"spare-{name}-{token_hex(4)}", cmd=Action.SPARE, until=now + SENT_S, spared=meters
        )
        send(connection, name, message, now)

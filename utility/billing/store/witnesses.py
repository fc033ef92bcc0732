"""The signatures of controllers under the check codes of issued runs: asked for, taken in, read."""

import json
from dataclasses import asdict
from pathlib import Path
from secrets import token_hex

from sqlalchemy import Connection, select

from commonwatt.model.units import ControllerId, EpochSeconds
from commonwatt.protocol.controller_commands import Action, ControllerCommand, witnessed_text
from utility.billing.proof import BoundKey, Signed, check_code, is_signed
from utility.billing.store.runs import ONCE_ISSUED, tree_of
from utility.billing.tables import bill_run, witness, witness_key
from utility.database.database import upsert
from utility.outbox.store import send
from utility.outbox.tables import command
from utility.registry.tables import controller

ASKED_S = 30 * 86_400  # for how long a signature is asked for; then it is asked for again
AGAIN_S = 86_400  # after how long a controller that could not sign is asked again
WITNESS_PREFIX = "witness-"  # with which the ids of these questions begin
MONTHS = 13  # newest issued months whose signatures are asked for


def to_ask(connection: Connection) -> list[tuple[int, str, ControllerId]]:
    """Return (run, month, controller) of the signatures that nobody has asked for yet, the newest month first.

    A month's cancelled runs come one after the other before the run that replaces them: a controller that did not hear
    of one would take the next for a second list.
    """
    c, w = bill_run.c, witness.c
    newest = select(c.month).where(c.state == "issued").order_by(c.month.desc()).limit(MONTHS)
    names = list(connection.execute(select(controller.c.id).order_by(controller.c.number)).scalars())
    found = []
    for month in connection.execute(newest).scalars().all():
        of_month = select(c.no).where(c.month == month, c.state.in_(ONCE_ISSUED), c.head.is_not(None)).order_by(c.no)
        runs = list(connection.execute(of_month).scalars())
        rows = connection.execute(select(w.controller, w.run_no, w.state).where(w.run_no.in_(runs))).all()
        asked = {(row.controller, row.run_no): row.state for row in rows}
        for name in names:
            last = max((no for no in runs if (name, no) in asked), default=0)
            after = [no for no in runs if no > last]
            if after and asked.get((name, last)) != "asked":
                found.append((after[0], month, name))
    return found


def take_in_and_ask(connection: Connection, authority: Path | None, now: EpochSeconds) -> None:
    """Take in the signatures of controllers, and ask for those under newly issued runs, until they are answered.

    One that could not sign, such as of an older version or with a full disk, is asked again a day later.

    Args:
        authority: The certificate of the authority behind the controllers' (PEM); ``None``: nobody can be asked.
    """
    if authority is None:
        return
    take_in(connection, authority.read_bytes())
    could_not = select(command.c.id).where(command.c.state == "done", command.c.created + AGAIN_S <= now)
    connection.execute(witness.delete().where(witness.c.state == "asked", witness.c.command.in_(could_not)))
    heads = {no: tree_of(connection, no).head for no in {no for no, _, _ in to_ask(connection)}}
    for no, month, name in to_ask(connection):
        message = ControllerCommand(
            id=f"{WITNESS_PREFIX}{no}-{name}-{token_hex(4)}",
            cmd=Action.WITNESS,
            until=now + ASKED_S,
            month=month,
            code=check_code(heads[no]),
            replaces=heads[no].get("replaces"),
        )
        send(connection, name, message, now)
        row = {"run_no": no, "controller": name, "command": message.id, "state": "asked"}
        connection.execute(witness.insert().values(row))


def take_in(connection: Connection, authority: bytes) -> None:
    """Store what controllers answered; one that did not answer in time is asked again.

    A signature that is not of what was asked for, or by a key that the controller's certificate did not sign, counts as
    refused: it raises the alarm, and comes into no receipt.
    """
    c = command.c
    of = select(witness.c.run_no, witness.c.controller, c.result, c.outcome, c.state, c.message)
    asked = of.join(command, command.c.id == witness.c.command, isouter=True).where(witness.c.state == "asked")
    for row in connection.execute(asked).all():
        ours = (witness.c.run_no == row.run_no) & (witness.c.controller == row.controller)
        said = json.loads(row.outcome or "{}")
        signed = said.get("signed")
        if row.state == "open":
            continue
        if row.result == "refused":
            connection.execute(witness.update().where(ours).values(state="refused"))
        elif row.result == "done" and signed:
            told = json.loads(row.message)
            text = witnessed_text(row.controller, told["month"], told["code"], told.get("replaces"))
            behind = {name: said.get(name, "") for name in ("bound", "certificate")}
            key = BoundKey(controller=row.controller, key=signed[:64], **behind)
            if is_signed(signed, text) and key.is_good(authority):
                connection.execute(witness.update().where(ours).values(state="signed", signed=signed))
                connection.execute(upsert(connection, witness_key, "bound", "certificate"), asdict(key))
            else:
                connection.execute(witness.update().where(ours).values(state="refused"))
        elif row.state in (None, "expired"):
            connection.execute(witness.delete().where(ours))


def refused(connection: Connection, now: EpochSeconds) -> list[str]:
    """Return which controllers asked within ``ASKED_S`` refused to sign, or answered wrongly, each with the month."""
    c = witness.c
    of = select(c.controller, bill_run.c.month).join(bill_run, bill_run.c.no == c.run_no)
    of = of.join(command, command.c.id == c.command).where(c.state == "refused", command.c.created > now - ASKED_S)
    return [f"{row.controller} ({row.month})" for row in connection.execute(of.order_by(c.run_no, c.controller))]


def keys_of(connection: Connection) -> list[BoundKey]:
    """Return the keys by which controllers have signed, by controller."""
    rows = connection.execute(select(witness_key).order_by(witness_key.c.controller, witness_key.c.key)).mappings()
    return [BoundKey(**row) for row in rows]


def signed_of(connection: Connection, number: int | None = None) -> list[Signed]:
    """Return the signatures under a run, or under all runs, by run and controller."""
    c = witness.c
    statement = select(c.controller, bill_run.c.month, c.signed).join(bill_run, bill_run.c.no == c.run_no)
    if number is not None:
        statement = statement.where(c.run_no == number)
    rows = connection.execute(statement.where(c.state == "signed").order_by(c.run_no, c.controller)).mappings()
    return [Signed(**row) for row in rows]

"""The signatures of controllers under the check codes of issued runs: asked for, taken in, read."""

import json
from secrets import token_hex

from sqlalchemy import Connection, select

from commonwatt.model.units import ControllerId, EpochSeconds
from commonwatt.protocol.controller_commands import Action, ControllerCommand
from utility.billing.proof.head import check_code
from utility.billing.proof.witnesses import Signed
from utility.billing.store.billing import tree_of
from utility.billing.tables import bill_run, witness
from utility.outbox.store.commands import send
from utility.outbox.tables import command
from utility.registry.tables import controller

ASKED_S = 30 * 86_400  # for how long a signature is asked for; then it is asked for again
MONTHS = 13  # newest issued months whose signatures are asked for


def to_ask(connection: Connection) -> list[tuple[int, str, ControllerId]]:
    """Return (run, month, controller) of the signatures that nobody has asked for yet, the newest month first."""
    c = bill_run.c
    newest = select(c.no, c.month).where(c.state == "issued").order_by(c.month.desc()).limit(MONTHS)
    names = list(connection.execute(select(controller.c.id).order_by(controller.c.number)).scalars())
    found = []
    for no, month in connection.execute(newest).all():
        asked = set(connection.execute(select(witness.c.controller).where(witness.c.run_no == no)).scalars())
        found += [(no, month, name) for name in names if name not in asked]
    return found


def take_in_and_ask(connection: Connection, now: EpochSeconds) -> None:
    """Take in the signatures of controllers, and ask for those under newly issued runs, until they are answered."""
    take_in(connection)
    heads = {no: tree_of(connection, no).head for no in {no for no, _, _ in to_ask(connection)}}
    for no, month, name in to_ask(connection):
        message = ControllerCommand(
            id=f"witness-{no}-{name}-{token_hex(4)}",
            cmd=Action.WITNESS,
            until=now + ASKED_S,
            month=month,
            code=check_code(heads[no]),
            replaces=heads[no].get("replaces"),
        )
        send(connection, name, message, now)
        row = {"run_no": no, "controller": name, "command": message.id, "state": "asked"}
        connection.execute(witness.insert().values(row))


def take_in(connection: Connection) -> None:
    """Store what controllers answered; one that did not answer in time, or could not, is asked again."""
    of = select(witness.c.run_no, witness.c.controller, command.c.result, command.c.outcome, command.c.state)
    asked = of.join(command, command.c.id == witness.c.command, isouter=True).where(witness.c.state == "asked")
    for row in connection.execute(asked).all():
        ours = (witness.c.run_no == row.run_no) & (witness.c.controller == row.controller)
        signed = json.loads(row.outcome or "{}").get("signed")
        if row.state == "open":
            continue
        if row.result == "refused":
            connection.execute(witness.update().where(ours).values(state="refused"))
        elif row.result == "done" and signed:
            connection.execute(witness.update().where(ours).values(state="signed", signed=signed))
        else:
            connection.execute(witness.delete().where(ours))


def signed_of(connection: Connection, number: int | None = None) -> list[Signed]:
    """Return the signatures under a run, or under all runs, by run and controller."""
    c = witness.c
    statement = select(c.controller, bill_run.c.month, c.signed).join(bill_run, bill_run.c.no == c.run_no)
    if number is not None:
        statement = statement.where(c.run_no == number)
    rows = connection.execute(statement.where(c.state == "signed").order_by(c.run_no, c.controller)).mappings()
    return [Signed(**row) for row in rows]

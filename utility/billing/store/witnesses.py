"""The signatures of controllers under the check codes of issued runs: asked for, taken in, read."""

import json
from secrets import token_hex

from sqlalchemy import Connection, select

from commonwatt.model.units import ControllerId, EpochSeconds
from commonwatt.protocol.controller_commands import Action, ControllerCommand
from utility.billing.proof.head import check_code
from utility.billing.proof.witnesses import Signed
from utility.billing.store.billing import ONCE_ISSUED, tree_of
from utility.billing.tables import bill_run, witness
from utility.outbox.store.commands import send
from utility.outbox.tables import command
from utility.registry.tables import controller

ASKED_S = 30 * 86_400  # for how long a signature is asked for; then it is asked for again
AGAIN_S = 86_400  # after how long a controller that could not sign is asked again
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


def take_in_and_ask(connection: Connection, now: EpochSeconds) -> None:
    """Take in the signatures of controllers, and ask for those under newly issued runs, until they are answered.

    One that could not sign, such as of an older version or with a full disk, is asked again a day later.
    """
    take_in(connection)
    could_not = select(command.c.id).where(command.c.state == "done", command.c.created + AGAIN_S <= now)
    connection.execute(witness.delete().where(witness.c.state == "asked", witness.c.command.in_(could_not)))
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
    """Store what controllers answered; one that did not answer in time is asked again."""
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
        elif row.state in (None, "expired"):
            connection.execute(witness.delete().where(ours))


def signed_of(connection: Connection, number: int | None = None) -> list[Signed]:
    """Return the signatures under a run, or under all runs, by run and controller."""
    c = witness.c
    statement = select(c.controller, bill_run.c.month, c.signed).join(bill_run, bill_run.c.no == c.run_no)
    if number is not None:
        statement = statement.where(c.run_no == number)
    rows = connection.execute(statement.where(c.state == "signed").order_by(c.run_no, c.controller)).mappings()
    return [Signed(**row) for row in rows]

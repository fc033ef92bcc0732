"""The signatures of controllers under the check codes of issued runs: asked for, taken in, read."""

import json
from dataclasses import asdict
from pathlib import Path

from sqlalchemy import Connection, func, select

from commonwatt.model.units import ControllerId, EpochSeconds
from commonwatt.protocol.controller_commands import Action, witnessed_text
from utility.billing.proof import BoundKey, Signed, check_code, is_signed
from utility.billing.store.runs import ONCE_ISSUED
from utility.billing.tables import bill_run, witness, witness_key
from utility.database.database import upsert
from utility.outbox.store import AGAIN_S, Wanted, tell, told_of
from utility.outbox.tables import command
from utility.registry.store.registry import controllers

ASKED_S = 30 * 86_400  # for how long a signature is asked for; then it is asked for again
WITNESS = "witness"  # with which the topics and ids of these questions begin
MONTHS = 13  # newest issued months whose signatures are asked for


def wanted(connection: Connection, now: EpochSeconds) -> list[Wanted]:
    """Return the signatures to ask for, of each controller one a month, the newest month first.

    A month's cancelled runs come one after the other before the run that replaces them: a controller that did not hear
    of one would take the next for a second list.
    """
    c, w = bill_run.c, witness.c
    newest = select(c.month).where(c.state == "issued").order_by(c.month.desc()).limit(MONTHS)
    of_months = select(c.no, c.month, c.head).where(c.month.in_(newest), c.state.in_(ONCE_ISSUED), c.head.is_not(None))
    runs = connection.execute(of_months.order_by(c.month.desc(), c.no)).all()
    answered = select(w.controller, c.month, func.max(w.run_no).label("last")).join(bill_run, c.no == w.run_no)
    rows = connection.execute(answered.group_by(w.controller, c.month))
    last = {(row.controller, row.month): row.last for row in rows}
    names, found = controllers(connection), dict[tuple[str, ControllerId], Wanted]()
    for run in runs:
        head = json.loads(run.head)
        fields = {"cmd": Action.WITNESS, "month": run.month, "code": check_code(head), "replaces": head.get("replaces")}
        for name in names:
            if run.no > last.get((name, run.month), 0) and (run.month, name) not in found:
                found[run.month, name] = Wanted(
                    controller=name,
                    topic=f"{WITNESS} {run.month}",
                    fields=fields,
                    content=run.no,
                    until=now + ASKED_S,
                    again_s=AGAIN_S,
                )
    return list(found.values())


def take_in_and_ask(connection: Connection, authority: Path | None, now: EpochSeconds) -> None:
    """Take in the signatures of controllers, and ask for those under newly issued runs, until they are answered.

    Args:
        authority: The certificate of the authority behind the controllers' (PEM); ``None``: nobody can be asked.
    """
    if authority is not None:
        take_in(connection, authority.read_bytes())
        tell(connection, wanted(connection, now), now)


def take_in(connection: Connection, authority: bytes) -> None:
    """Store what controllers answered.

    A signature that is not of what was asked for, or by a key that the controller's certificate did not sign, counts as
    refused: it raises the alarm, and comes into no receipt.
    """
    taken, runs = (set(connection.execute(select(each)).scalars()) for each in (witness.c.command, bill_run.c.no))
    for one in told_of(connection, WITNESS):
        if one.command in taken or one.content not in runs or one.result not in ("done", "refused"):
            continue
        its = connection.execute(select(command.c.message, command.c.outcome).where(command.c.id == one.command)).one()
        told, said = json.loads(its.message), json.loads(its.outcome or "{}")
        signed = said.get("signed")
        if one.result == "done" and not signed:
            continue  # It could not, and is asked again.
        text = witnessed_text(one.controller, told["month"], told["code"], told.get("replaces"))
        behind = {name: said.get(name, "") for name in ("bound", "certificate")}
        key = BoundKey(controller=one.controller, key=(signed or "")[:64], **behind)
        is_good = one.result == "done" and is_signed(signed, text) and key.is_good(authority)
        if is_good:
            connection.execute(upsert(connection, witness_key, "bound", "certificate"), asdict(key))
        state = {"state": "signed", "signed": signed} if is_good else {"state": "refused"}
        row = {"run_no": one.content, "controller": one.controller, "command": one.command}
        connection.execute(witness.insert().values(row | state))


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

"""The weights of sharing that controllers were sent from the registry, and the commands that send them (T6, A4)."""

import json
from collections.abc import Callable, Mapping

from sqlalchemy import Connection, select

from commonwatt.model.units import QUARTER_S, EpochSeconds, MicrogridId
from commonwatt.protocol.controller_commands import Action, ControllerCommand
from utility.control.tables import weights_told
from utility.control.weights import Weighting
from utility.outbox.store.commands import send
from utility.outbox.tables import command
from utility.registry.tables import account_term, holding, meter

VALID_S = 86_400  # seconds after their begin for which weights are sent until they are acknowledged
LOST = ("expired", "superseded")  # states of a command that no gateway has carried out


def microgrids_with_weights(connection: Connection) -> set[MicrogridId]:
    """Return the microgrids with a battery whose account has a weight in the registry, now or at another time."""
    statement = (
        select(meter.c.microgrid)
        .distinct()
        .join(holding, holding.c.meter == meter.c.id)
        .join(account_term, account_term.c.account == holding.c.account)
        .where(account_term.c.what == "weight", meter.c.battery_capacity.is_not(None))
    )
    return set(connection.execute(statement).scalars())


def microgrid_of(connection: Connection, label: str) -> MicrogridId | None:
    """Return the microgrid of a meter, by its id as text; ``None``: it is not registered."""
    statement = select(meter.c.microgrid).where(meter.c.label == label)
    found: MicrogridId | None = connection.execute(statement).scalar()
    return found


def told_weights(connection: Connection) -> dict[MicrogridId, list[tuple[Weighting, str]]]:
    """Return what each controller was sent, in order of time, with the states of the commands; lost ones left out."""
    c = weights_told.c
    statement = select(weights_told, command.c.state).outerjoin(command, command.c.id == c.command)
    found: dict[MicrogridId, list[tuple[Weighting, str]]] = {}
    for row in connection.execute(statement.order_by(c.controller, c.since)):
        weights = {int(number): weight for number, weight in json.loads(row.weights).items()}
        state = row.state or "done"  # Old commands may be dropped.
        kept = found.setdefault(row.controller, [])
        if state not in LOST:
            kept.append((Weighting(since=row.since, weights=weights), state))
    return found


def tell_weights(
    connection: Connection,
    new: Mapping[MicrogridId, Weighting],
    now: EpochSeconds,
    new_id: Callable[[], str],
) -> None:
    """Store the commands that tell controllers weights; the service sends each until it is answered."""
    for to, weighting in new.items():
        begin = weighting.since * QUARTER_S
        message = ControllerCommand(
            id=new_id(),
            cmd=Action.SHARING,
            until=max(begin, now) + VALID_S,
            weights=dict(weighting.weights),
            from_time=begin if begin > now else None,
        )
        send(connection, to, message, now)
        c = weights_told.c
        connection.execute(weights_told.delete().where(c.controller == to, c.since >= weighting.since))
        weights = json.dumps({str(number): weight for number, weight in weighting.weights.items()})
        row = {"controller": to, "since": weighting.since, "command": message.id, "weights": weights}
        connection.execute(weights_told.insert(), row)

"""Announces a storm: the plant and all gateways get it in one transaction (docs/islanding.md, *Before a storm*)."""

from typing import Any

from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.controller_commands import Action
from utility.access.actor import Actor
from utility.control.changes import Asked, Chosen
from utility.control.changing import add_change
from utility.control.store.control_changes import kinds_of
from utility.database.database import Database
from utility.supply.buying.situation import Storm
from utility.supply.store.supply_view import announced_storm, save_storm

LEAST_VALID_S = 3600  # seconds for which gateways get at least that no storm is expected any more


def announce_storm(database: Database, actor: Actor, storm: Storm | None, now: EpochSeconds) -> int | None:
    """Announce a storm in place of an earlier one.

    Args:
        actor: The person who announces it.
        storm: The storm; ``None``: none is expected any more.

    Returns:
        The number of the change that tells all gateways; ``None``: no microgrid is registered yet.
    """
    with database.writes.begin() as connection:
        before = announced_storm(connection, now)
        save_storm(connection, storm)
        if not kinds_of(connection):
            return None
        fields: dict[str, Any] = {"state": "off"} if storm is None else {"state": "on", "for_s": storm.end - now}
        # A gateway that received the storm and is away hears of its cancellation as long as it would hold.
        valid_s = LEAST_VALID_S if before is None else max(LEAST_VALID_S, before.end - now)
        asked = Asked(action=Action.HOLD, fields=fields, chosen=Chosen(everyone=True), valid_s=valid_s)
        return add_change(connection, actor, asked, now)

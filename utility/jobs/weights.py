"""The job that tells gateways the sharing weights which residents chose, from their dates on (T6)."""

import logging

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds, MicrogridId, quarter_of
from commonwatt.protocol.controller_commands import Action
from utility.access.actor import Actor, Via
from utility.commands.changes import Asked, Chosen
from utility.commands.changing import make_change
from utility.jobs.billing import InThread
from utility.store.database import Database
from utility.store.job_leases import Turn
from utility.store.weights import SERVICE, ByMeter, weights_in_force, weights_told

VALID_S = 7 * 86_400
"""Seconds for which a gateway that is away is told its weights; then they are told anew."""

log = logging.getLogger(__name__)

_ACTOR = Actor(name=SERVICE, roles=frozenset(), account=None, via=Via.MACHINE, address="")


class WeightsJob:
    """Tells each gateway the weights of its accounts when they have changed since it was told last.

    An operator's weights of a microgrid hold until a resident's change there.
    """

    def __init__(self, database: Database, *, in_thread: InThread, writing: InThread) -> None:
        self._database = database
        self._in_thread = in_thread
        self._writing = writing

    async def run(self, turn: Turn) -> None:
        """Tell what was not told yet."""
        for microgrid, weights in (await self._in_thread(weights_to_tell, self._database, turn.now)).items():
            await self._writing(self._tell, microgrid, weights, turn.now)

    def _tell(self, microgrid: MicrogridId, weights: ByMeter, now: EpochSeconds) -> None:
        asked = Asked(
            action=Action.SHARING,
            fields={"weights": dict(weights)},
            chosen=Chosen(microgrids=(microgrid,)),
            valid_s=VALID_S,
        )
        try:
            make_change(self._database, _ACTOR, asked, now)
        except ConfigError as error:
            # Such as a line that is over its allowance: the next look tries again.
            log.warning("%s was not told its accounts' weights: %s", microgrid, error)


def weights_to_tell(database: Database, now: EpochSeconds) -> dict[MicrogridId, ByMeter]:
    """Return the weights that gateways were not told yet; empty: those of the gateway's file hold again."""
    with database.reads.begin() as connection:
        wanted, known = weights_in_force(connection, quarter_of(now)), weights_told(connection)
    return {name: wanted.get(name, {}) for name in sorted({*wanted, *known}) if wanted.get(name, {}) != known.get(name)}

"""The job that tells controllers the sharing weights of their batteries, as the registry dates them."""

from secrets import token_hex

from commonwatt.model.units import QUARTER_S, EpochSeconds, MicrogridId
from utility.control.commands import Weighting, to_tell, weightings
from utility.control.store import microgrids_with_weights, tell_weights, told_weights
from utility.database.database import Database
from utility.jobs.plans import Threads
from utility.jobs.store import Turn
from utility.registry.accounts import Installed
from utility.registry.store.accounts import load_batteries


async def tell_weights_due(database: Database, threads: Threads, turn: Turn) -> None:
    """Tell each controller the weights in force, and the next ones before they begin; each once."""
    new = await threads.read(weights_to_tell, database, turn.now)
    if new:
        await threads.write(database.write, tell_weights, new, turn.now, lambda: f"weights-{token_hex(8)}")


def weights_to_tell(database: Database, now: EpochSeconds) -> dict[MicrogridId, Weighting]:
    """Return the weights to send to controllers next; one that has not answered yet gets no more."""
    quarter = now // QUARTER_S
    with database.reads.begin() as connection:
        told = told_weights(connection)
        microgrids = microgrids_with_weights(connection) | told.keys()
        if not microgrids:
            return {}
        registry = load_batteries(connection, microgrids)
    members: dict[MicrogridId, list[Installed]] = {}
    for meter in registry.meters.values():
        members.setdefault(meter.microgrid, []).append(meter)
    found = {}
    for name in sorted(microgrids):
        known = told.get(name, [])
        if any(state == "open" for _, state in known):
            continue
        wanted = weightings(members.get(name, []), registry.accounts, quarter)
        if (new := to_tell([one for one, _ in known], wanted, quarter)) is not None:
            found[name] = new
    return found

"""The job that tells gateways which places must not be cut."""

from secrets import token_hex

from utility.database.database import Database
from utility.jobs.store.job_leases import Turn
from utility.jobs.threads import Threads
from utility.registry.store.spared import tell


async def tell_spared(database: Database, threads: Threads, turn: Turn) -> None:
    """Tell each gateway of a change, until it answers."""
    await threads.write(database.write, tell, turn.now, token_hex(4))

"""The job that takes a rollout one step further."""

from pathlib import Path

from commonwatt.clique.cliques import load_cliques
from utility.database.database import Database
from utility.fleet.decisions import advance
from utility.jobs.plans import Threads
from utility.jobs.store import Turn


async def roll_out(database: Database, threads: Threads, cliques: Path | None, turn: Turn) -> None:
    """Send the release of the running rollout to the controllers whose turn it is."""
    groups = () if cliques is None else [group.members for group in load_cliques(cliques).groups]
    await threads.write(advance, database, groups, turn.now)

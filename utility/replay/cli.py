"""Stored days again, for ``commonwatt scenario run --readings``."""

from pathlib import Path

from commonwatt.town.scenario import Scenario
from utility.billing.run import Progress
from utility.replay.decisions import Replayed, replay
from utility.tariffs.tariff import Tariff
from utility.webkit.cli.options import from_file, load


def replayed(config: Path, scenario: Scenario, policy: str, tariff: Tariff | None, progress: Progress) -> Replayed:
    """Replay days of the database of the utility's file ``config`` (``replay``)."""
    with from_file(config) as (database, _):
        return replay(database, scenario, policy, tariff, load(config)[0].billing.tariff, progress)

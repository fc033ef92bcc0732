"""A stolen controller runs on in its place: its mates pass the office's list on, and its meters obey a mate (R5)."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import pytest

from commonwatt.clique.cliques import warm_meters
from commonwatt.clique.revocation import write_revoked_list
from commonwatt.identity.enrolment import alone, revoke_devices
from commonwatt.site.office import make_site
from commonwatt.town.town import Function
from harness.clique.real.namespaces import need_namespaces
from harness.clique.real.register import registering
from harness.clique.real.town import NAMES, UTILITY_PARTS, Town, gateway
from harness.network.waiting import eventually
from harness.real import forks

pytestmark = pytest.mark.real

THIEF, MATES = "r001", ("r002", "r003")
LOOKS_S = 120.0  # seconds within which the meters with silent sessions obey another controller


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    need_namespaces()
    with closing(Town(tmp_path / "town")) as town:
        for name in NAMES:
            settings = tmp_path / "town" / name / "meters.toml"
            settings.write_text(settings.read_text().replace("[meters]\n", '[meters]\nauthority = "ca.pem"\n', 1))
        yield town


def warm(town: Town) -> dict[str, set[int]]:
    """Return the meters of each microgrid that hold silent sessions."""
    return {
        name: set(
            warm_meters({m.id: m.battery is not None for m in grid.meters if m.function is not Function.BOUNDARY})
        )
        for name, grid in town.town.microgrids.items()
    }


def revoke(folder: Path) -> None:
    """Do what the office does when a controller was stolen (docs/security.md)."""
    now = int(time.time())
    with alone(folder):
        revoke_devices(folder, THIEF, "stolen", now, with_meters=False)
        write_revoked_list(folder, now)
    with registering, patch("commonwatt.site.office.subprocess.run", forks.run):
        make_site(folder, now)


def test_the_meters_of_a_stolen_controller_that_runs_on_obey_a_mate(town: Town) -> None:
    town.start_all(utility=True)
    silent = warm(town)
    everyone = set().union(*silent.values())
    revoke(town.folder)
    for part in (*map(gateway, MATES), UTILITY_PARTS[1]):
        town.stop(part)
        town.start(part)

    def told() -> set[int]:
        return {one.meter for one in town.commanded() if one.cmd == "revoked" and one.result == "done"}

    eventually(lambda: told() >= everyone, LOOKS_S)
    eventually(lambda: {town.holders()[meter] for meter in silent[THIEF]} <= set(MATES), LOOKS_S)
    left = time.monotonic()
    # The others come when the deposed gateway, which is no liar, takes no more of their records.
    eventually(lambda: told() >= set(town.meters(THIEF)), LOOKS_S)
    assert [one for one in town.commanded(left) if one.via == THIEF and one.meter in everyone] == []
    assert town.died() == []

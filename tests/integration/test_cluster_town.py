"""A town of 24 microgrids on a cluster loses its primary and its active utility: it stores again soon, all of it."""

from pathlib import Path

import pytest

from harness.cluster.machines import need_cluster
from harness.cluster.town.faults import GOAL_S, Stored, suffer
from harness.cluster.town.parts import ClusterTown

pytestmark = pytest.mark.real


def test_the_town_goes_on_without_its_primary_and_without_its_active_utility(tmp_path: Path) -> None:
    need_cluster()
    with ClusterTown(tmp_path / "logs") as town:
        town.set_up()
        with Stored(town) as stored:
            seen = [suffer(town, stored, role, "killed") for role in ("primary", "active utility")]
        # On a busy machine seconds are added, but no more than for another look at the lease or at the lock.
        assert [one for one in seen if one.pause_s > 2 * GOAL_S] == []
        audit = town.audit()
        assert "nothing lost, nothing counted twice" in audit, audit
        assert town.doubled() == []

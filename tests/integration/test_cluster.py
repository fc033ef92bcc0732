"""docs/cluster.md: its commands install three databases, which lose a primary but no acknowledged row (issue 33)."""

import re
import threading
import time
from collections.abc import Iterator

import pytest

from harness.cluster.machines import DATABASES, DatabaseMachines, block, need_cluster
from harness.cluster.writer import Seen, Writer, ask, look, only, prepare
from harness.network.waiting import eventually
from tests.unit.grafana.test_rules import RULES

pytestmark = pytest.mark.real

# The lock of a dead primary lasts 20 s (ttl), and up to 4 s of an election more if its machine had etcd's leader. A
# standby sees its end within 5 s (loop_wait) and promotes in 2 s; the writer waits up to 3 s for a dead host.
WRITES_AGAIN_S = 35.0
ON_A_BUSY_MACHINE_S = 60.0  # other tests run beside it
CUT_S = 3.0  # time for which the standbys lag; Patroni would give the primary up after 5 s

UPGRADE = "Switch over, restart, upgrade"

_TICK = threading.Event()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatabaseMachines]:
    need_cluster()
    with DatabaseMachines(tmp_path_factory.mktemp("cluster")) as machines:
        machines.set_up()
        prepare(machines)
        yield machines


@pytest.fixture
def machines(installed: DatabaseMachines) -> DatabaseMachines:
    """The cluster with a primary and both standbys."""
    installed.settle()
    return installed


def test_the_page_installs_what_it_says(machines: DatabaseMachines) -> None:
    machines.run("db2", block("etcd", 1))
    names = "synchronous_standby_names", "data_checksums", "max_connections", "wal_sender_timeout", "ssl"
    standby, *others = (ask(machines, f"SHOW {name}")[0] for name in names)
    assert standby.strip('"') == machines.sync_standby()
    assert others == ["on", "100", "10s", "on"]


def test_alerts_name_metrics_that_patroni_and_etcd_have(machines: DatabaseMachines) -> None:
    expressions = " ".join(rule["expr"] for rule in RULES)
    named = set(re.findall(r"\b(?:patroni|etcd)_\w+", expressions))
    said = machines.metrics("db1")
    assert len(named) > 8
    assert {name for name in named if f"\n{name}{{" not in said and f"\n{name} " not in said} == set()


def test_machines_are_upgraded_in_turn_by_the_page_without_a_loss(machines: DatabaseMachines) -> None:
    old, then, first = machines.primary(), machines.sync_standby(), machines.other()
    with Writer(machines, "upgrade", machines.url()) as writer:
        eventually(lambda: len(writer.acknowledged) > 50)
        began = time.monotonic()
        for name in (first, then, old):
            if name == old:
                machines.run(machines.sync_standby(), block(UPGRADE, 0))
                machines.settle()
                machines.run(name, block(UPGRADE, 1))
                machines.settle()
            assert machines.primary() != name
            machines.run(name, block(UPGRADE, 2))
            machines.settle()
        ended = time.monotonic()
        eventually(lambda: writer.since(ended) > 20)
    gap_s = writer.longest_gap_s(began, time.monotonic())
    print(f"upgrade in turn, with a switchover: longest gap {gap_s:.1f} s")
    assert machines.primary() != old
    assert writer.lost() == 0
    assert gap_s < WRITES_AGAIN_S


def test_a_primary_that_was_paused_acknowledges_nothing_after_it_was_replaced(machines: DatabaseMachines) -> None:
    old = machines.primary()
    with (
        Writer(machines, "direct", only(machines, old)) as direct,
        Writer(machines, "paused", machines.url()) as writer,
    ):
        eventually(lambda: min(len(direct.acknowledged), len(writer.acknowledged)) > 50)
        machines.stop(old)
        eventually(lambda: "primary" in machines.roles().values())
        replaced = time.monotonic()
        eventually(lambda: writer.since(replaced) > 20)
        machines.cont(old)
        machines.settle()
        assert machines.primary() != old
        settled = time.monotonic()
        eventually(lambda: writer.since(settled) > 20)
    assert direct.since(replaced) == 0
    assert direct.errors
    assert (direct.lost(), writer.lost()) == (0, 0)


def look_at_a_lost_primary(machines: DatabaseMachines, name: str) -> Seen:
    """Lose what the primary sends to its standbys for some seconds, then kill -9 all that runs on its machine."""
    primary = machines.primary()
    standbys = [each for each in DATABASES if each != primary]

    def fault() -> None:
        for standby in standbys:
            machines.cut(primary, standby)
        _TICK.wait(CUT_S)
        machines.kill(primary)
        for standby in standbys:
            machines.mend(primary, standby)
        machines.primary()

    seen = look(machines, name, fault, lambda: machines.boot(primary), lasts_s=0)
    assert machines.primary() != primary
    return seen


def test_writes_go_on_without_a_loss_after_the_primary_is_killed(machines: DatabaseMachines) -> None:
    seen = look_at_a_lost_primary(machines, "synchronous")
    print(f"the primary's machine is lost: writes go on after {seen.gap_s:.1f} s")
    assert seen.lost == 0
    assert CUT_S < seen.gap_s < WRITES_AGAIN_S + CUT_S + ON_A_BUSY_MACHINE_S


def test_asynchronous_replication_would_lose_rows(machines: DatabaseMachines) -> None:
    """The same fault without ``synchronous_mode`` shows losses: so the tests above can fail."""
    machines.replicate(synchronously=False)
    assert look_at_a_lost_primary(machines, "asynchronous").lost > 0
    machines.replicate(synchronously=True)

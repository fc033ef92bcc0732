"""Power cuts under a real gateway and a real utility: the files keep acknowledged data (faults, row 4)."""

from bisect import bisect
from collections.abc import Callable, Iterator
from itertools import groupby

import pytest

from harness.network.waiting import eventually
from harness.powercut.bench import OPENING, Bench, Session
from harness.powercut.disk import Kind, records
from harness.powercut.load import GATEWAYS_METERS
from harness.powercut.recovered import Cut, Recording, power_cuts

CUTS = 25
MESSAGES = 60
SEED = 20_260_920


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with Bench(tmp_path_factory.mktemp("powercut")) as bench:
        yield bench


def first_loss(recording: Recording, name: str, seed: int = SEED) -> Cut | None:
    """Return the first cut that loses data; later cuts are not made."""
    return next((cut for cut in power_cuts(recording, OPENING[name], cuts=CUTS, seed=seed) if cut.amiss), None)


def whole_groups(recording: Recording) -> int:
    """Return how often all meters' puts were acknowledged between the same two syncs."""
    syncs = [end for end, done in records(recording.trace) if done.kind is Kind.SYNCED]
    groups = groupby(recording.acknowledged, key=lambda message: bisect(syncs, message.position))
    together = [{message.ids[0] for message in group if message.ids} for _, group in groups]
    return together.count(set(GATEWAYS_METERS))


def test_row_04_what_was_acknowledged_survives_every_power_cut(bench: Bench) -> None:
    for name, recording in bench.record(MESSAGES).items():
        cuts = list(power_cuts(recording, OPENING[name], cuts=CUTS, seed=SEED))
        assert [cut for cut in cuts if cut.amiss] == [], name
        assert len(cuts) == CUTS
        # The cuts are spread over a run with acknowledged data.
        assert cuts[-1].acknowledged - cuts[0].acknowledged > MESSAGES / 2, name
        if name == "r001 gateway":
            assert whole_groups(recording) > MESSAGES / 4, "often one commit has the puts of all meters"


def test_row_04_power_cuts_reveal_commits_that_are_not_synced(bench: Bench) -> None:
    for name, recording in bench.record(30, planted="normal").items():
        assert first_loss(recording, name) is not None, name


def test_row_04_power_cuts_reveal_an_acknowledgement_before_its_commit(bench: Bench) -> None:
    recording = bench.record(30, planted="behind")["r001 gateway"]
    assert first_loss(recording, "r001 gateway") is not None


FAILURES = {
    "r001 gateway": "commonwatt_gateway_store_failures_total",
    "utility": "commonwatt_utility_store_errors_total",
}


def failures(session: Session) -> list[float]:
    """Return the counted store failures of each part."""
    return [session.site.metric(name, metric) for name, metric in FAILURES.items()]


def more(now: Callable[[], list[float]], by: int) -> None:
    """Wait until each of some counters has grown."""
    before = now()
    eventually(lambda: all(x >= was + by for was, x in zip(before, now(), strict=True)))


def fail_syncs(session: Session) -> None:
    """Make syncs fail until the parts detect it, and again after they have opened their stores again."""
    before = failures(session)
    session.fail_syncs()
    acknowledged = session.acknowledged()
    eventually(lambda: all(now >= was + 2 for was, now in zip(before, failures(session), strict=True)))
    # Each player waits for one acknowledgement, which may have been in transit.
    assert all(now <= was + 1 for was, now in zip(acknowledged, session.acknowledged(), strict=True))
    assert all(session.site.status(name) is not None for name in FAILURES)


def fail_and_heal(session: Session) -> None:
    """Make syncs fail, then succeed, while the parts run."""
    fail_syncs(session)
    session.heal_syncs()
    more(session.acknowledged, by=5)
    assert all(recorder.opened_after_failure() for recorder in session.recorders.values())


def fail_and_start_again(session: Session) -> None:
    """Make syncs fail until the parts have ended, and start them again."""
    fail_syncs(session)
    session.site.stop(*FAILURES)
    session.heal_syncs()
    session.site.start(*FAILURES)
    more(session.acknowledged, by=5)


def fail_twice(session: Session) -> None:
    """Do both."""
    fail_and_heal(session)
    fail_and_start_again(session)


def test_row_07_nothing_is_acknowledged_while_syncs_fail_and_nothing_lost_after(bench: Bench) -> None:
    for name, recording in bench.record(5, meanwhile=fail_twice).items():
        # Each seed is another choice of the failed syncs' losses.
        for seed in range(5):
            cuts = list(power_cuts(recording, OPENING[name], cuts=5, seed=seed))
            assert [cut for cut in cuts if cut.amiss] == [], (name, seed)


def test_row_07_power_cuts_reveal_a_store_that_believes_its_log_after_a_failed_sync(bench: Bench) -> None:
    for name, recording in bench.record(5, planted="trusting", meanwhile=fail_and_start_again).items():
        assert any(first_loss(recording, name, seed) for seed in range(5)), name

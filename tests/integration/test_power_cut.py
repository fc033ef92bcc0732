"""Power cuts under a real gateway and a real utility: what they acknowledged is in what is left (faults, row 4)."""

from collections.abc import Iterator

import pytest

from tests.support.powercut.bench import OPENING, Bench
from tests.support.powercut.recovered import Cut, Recording, power_cuts

CUTS = 50
SEED = 20_260_920


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with Bench(tmp_path_factory.mktemp("powercut")) as bench:
        yield bench


def first_loss(recording: Recording, name: str) -> Cut | None:
    """Return the first of the cuts that loses something; those after it are not made."""
    return next((cut for cut in power_cuts(recording, OPENING[name], cuts=CUTS, seed=SEED) if cut.amiss), None)


def test_row_04_what_was_acknowledged_survives_every_power_cut(bench: Bench) -> None:
    for name, recording in bench.record(for_s=3).items():
        cuts = list(power_cuts(recording, OPENING[name], cuts=CUTS, seed=SEED))
        assert [cut for cut in cuts if cut.amiss] == [], name
        assert len(cuts) == CUTS
        # The cuts are spread over a run in which there was something to lose.
        assert cuts[-1].acknowledged - cuts[0].acknowledged > 50, name


def test_row_04_power_cuts_reveal_commits_that_are_not_synced(bench: Bench) -> None:
    for name, recording in bench.record(for_s=1, planted="normal").items():
        assert first_loss(recording, name) is not None, name


def test_row_04_power_cuts_reveal_an_acknowledgement_before_its_commit(bench: Bench) -> None:
    recording = bench.record(for_s=1, planted="behind")["r001 gateway"]
    assert first_loss(recording, "r001 gateway") is not None

"""A clique's steps rest while nothing is in doubt, and no beat, probe or loss is later for it."""

from commonwatt.cliques.signs import BEAT_S, LATE_S, PATIENT_S, PAUSE_S, Beat, Bits
from commonwatt.protocol.topics import UTILITY
from gateway.takeover.controller import Takeover
from gateway.takeover.effects import Kept
from gateway.takeover.member import STEP_S
from gateway.takeover.post import Means, Post

ORDERS = {"r001": ("r001", "r002"), "r002": ("r002", "r001")}
RANKS = {"r001": 1, "r002": 2}
WELL = Bits(able=frozenset(ORDERS), manages=frozenset({"r002"}))  # what r002 says while all is well


def calm_at(now: float) -> Takeover:
    """Return r001 in its clique, which manages its own microgrid and stands by in r002, the utility heard."""
    posts = [Post(microgrid=name, own="r001", order=order, ranks=RANKS, meters=4) for name, order in ORDERS.items()]
    takeover = Takeover("r001", posts, {"r001": Kept((1, 1), (1, 1)), "r002": Kept((0, 1), (1, 2))}, now)
    for member in takeover.members.values():
        member.means = Means(able=True, commits=True, connected=4)
    for meter in (1, 2):
        takeover.members["r001"].meter_said(meter, (0, 0), now)
    takeover.tick(now)
    takeover.beat(UTILITY, Beat(is_answer=True, hears=frozenset({"r002"})), now)
    return takeover


def test_it_rests_until_the_next_beat() -> None:
    assert calm_at(100.0).rests_until(100.1) == 100.0 + BEAT_S


def test_in_doubt_it_rests_no_longer_than_between_two_probes() -> None:
    takeover = calm_at(100.0)
    takeover.members["r001"].restore(Kept((1, 1), (1, 1)))
    assert takeover.rests_until(100.1) == 100.1 + STEP_S


def test_the_loss_of_the_utility_makes_it_step_for_each_beat_and_probe_alone() -> None:
    takeover = calm_at(100.0)
    lost = 100.0 + PATIENT_S
    now = 100.0
    steps = 0
    while now < lost + 60:
        now = max(takeover.rests_until(now), now + 0.1)
        takeover.tick(now)
        takeover.beat("r002", Beat(WELL, is_answer=True), now)
        steps += 1
    # A beat to each, a look whether r002 is late, and a probe a second to the utility until it is lost.
    assert steps <= 3 * 72 / BEAT_S + PATIENT_S


def test_a_late_sign_of_another_one_is_no_later_for_the_rest_when_the_utility_is_gone() -> None:
    takeover = calm_at(100.0)
    now, heard = 100.0, 0.0
    while now < 130.0:
        now = max(takeover.rests_until(now), now + 0.1)
        takeover.tick(now)
        if now < 120.0:
            takeover.beat("r002", Beat(WELL, is_answer=True), now)
            heard = now
        elif takeover.members["r002"].claim is not None:
            break
    assert now <= heard + BEAT_S + LATE_S + 0.1


def test_a_long_rest_is_no_pause_if_the_time_is_noted_and_a_stop_is_one() -> None:
    takeover = calm_at(100.0)
    assert not any(takeover.note(100.0 + second) for second in range(1, 5))
    assert not takeover.note(104.0 + PAUSE_S - 0.1)
    assert takeover.members["r001"].commands
    assert takeover.note(110.0 + PAUSE_S)
    assert not takeover.members["r001"].commands

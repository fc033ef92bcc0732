"""A clique's steps rest while nothing is in doubt, and no beat, probe or loss is later for it."""

from commonwatt.cliques.signs import BEAT_S, LATE_S, Beat
from commonwatt.protocol.topics import UTILITY
from gateway.takeover.controller import Takeover
from gateway.takeover.effects import Kept
from gateway.takeover.post import Means, Post

ORDERS = {"r001": ("r001", "r002"), "r002": ("r002", "r001")}
RANKS = {"r001": 1, "r002": 2}


def calm_at(now: float) -> Takeover:
    """Return r001 in its clique, which manages its own microgrid and stands by in r002, the utility heard."""
    posts = [Post(microgrid=name, own="r001", order=order, ranks=RANKS, meters=4) for name, order in ORDERS.items()]
    takeover = Takeover("r001", posts, {"r001": Kept((1, 1), (1, 1)), "r002": Kept((0, 1), (1, 2))}, 1, now)
    for member in takeover.members.values():
        member.means = Means(able=True, commits=True, connected=4)
    for meter in (1, 2):
        takeover.members["r001"].meter_said(meter, (0, 0), now)
    takeover.tick(now)
    takeover.beat(UTILITY, Beat(is_answer=True, hears=frozenset({"r002"})), now)
    return takeover


def test_it_rests_until_the_next_beat() -> None:
    assert calm_at(100.0).rests_until(100.1) == 100.0 + BEAT_S


def test_it_does_not_rest_once_a_sign_may_be_late() -> None:
    takeover = calm_at(100.0)
    late = 100.0 + BEAT_S + LATE_S
    takeover.tick(late - 0.1)  # the beat
    assert takeover.rests_until(late - 0.1) == late
    assert takeover.rests_until(late + 1) <= late + 1


def test_it_does_not_rest_in_doubt_or_when_it_reaches_too_few_meters() -> None:
    takeover = calm_at(100.0)
    takeover.members["r001"].means.able = False
    assert takeover.rests_until(100.1) == 100.1
    takeover = calm_at(100.0)
    takeover.members["r001"].restore(Kept((1, 1), (1, 1)))
    assert takeover.rests_until(100.1) == 100.1

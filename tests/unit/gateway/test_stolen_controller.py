"""What a stolen controller can and can't do to its clique (docs/security.md): the rules of its mates."""

import pytest

from commonwatt.cliques.signs import Beat, Bits
from commonwatt.model.units import ControllerId
from commonwatt.protocol.clique_messages import CliqueMessage, Grant, Known, Vote, Yield
from commonwatt.protocol.commands import EPOCH_STEP, RAISES
from commonwatt.protocol.topics import UTILITY
from gateway.takeover.controller import Takeover
from gateway.takeover.effects import Begin, Kept
from gateway.takeover.post import Post

RANKS = {"r001": 1, "r002": 2, "r003": 3}
ORDER = ("r001", "r002", "r003")
THIEF = "r003"


def controller(own: ControllerId, kept: Kept, *, sure: bool = True) -> Takeover:
    """Return the part of a controller in microgrid r001, at second 100, with lines that are known."""
    post = Post(microgrid="r001", own=own, order=ORDER, ranks=RANKS, meters=6)
    it = Takeover(own, [post], {"r001": kept}, 0)
    it.members["r001"].sure = sure
    for second in range(101):
        for name in it.signs.lines:
            it.signs.sign(name, second)
        it.members["r001"].now = second
    return it


OWNER = Kept((1, 1), (1, 1))


@pytest.mark.parametrize(
    "message",
    [
        Grant(microgrid="r001", epoch=(2, 3), replaces=(1, 1)),
        Known(microgrid="r001", highest=(9, 3), manages=True),
        Known(microgrid="r001", highest=(2**31, 3), manages=True),
        Vote(microgrid="r001", nonce=1, saw="lost", highest=(9, 3)),
        Yield(microgrid="r001", epoch=(2 + EPOCH_STEP, 1)),
        Yield(microgrid="r001", epoch=(2, 3)),
    ],
    ids=str,
)
def test_no_message_of_a_mate_deposes_a_living_manager(message: CliqueMessage) -> None:
    owner = controller("r001", OWNER)
    assert not [effect for effect in owner.handle(THIEF, message, 100.1) if isinstance(effect, Begin)]
    assert owner.members["r001"].commands


def test_only_the_utility_grants() -> None:
    mate = controller("r002", Kept((0, 2), (1, 1)))
    grant = Grant(microgrid="r001", epoch=(2, 2), replaces=(1, 1))
    assert mate.handle(THIEF, grant, 100.1) == []
    assert [effect for effect in mate.handle(UTILITY, grant, 100.1) if isinstance(effect, Begin)]


def test_a_lying_vote_ends_no_manager_that_the_asker_hears() -> None:
    mate = controller("r002", Kept((0, 2), (1, 1)))
    member = mate.members["r001"]
    for tenth in range(1, 150):
        now = 100 + tenth / 10
        if tenth % 33 == 0:
            mate.signs.sign("r001", now)
        mate.tick(now)
        if member.claim is not None:
            lie = Vote(microgrid="r001", nonce=member.claim.nonce, saw="lost", highest=(1, 1))
            effects = mate.handle(THIEF, lie, now)
            assert not [effect for effect in effects if isinstance(effect, Begin)]
    assert not member.commands


def test_it_may_give_away_what_it_manages_and_nothing_else() -> None:
    mate = controller("r002", Kept((0, 2), (1, 1)))
    effects = mate.handle(THIEF, Yield(microgrid="r001", epoch=(2, 2)), 100.1)
    assert not [effect for effect in effects if isinstance(effect, Begin)]
    mate = controller("r002", Kept((0, 2), (1, 3)))
    effects = mate.handle(THIEF, Yield(microgrid="r001", epoch=(2, 2)), 100.1)
    assert [effect.epoch for effect in effects if isinstance(effect, Begin)] == [(2, 2)]


@pytest.mark.parametrize("step", [1, EPOCH_STEP])
def test_its_word_raises_a_counter_a_step_a_day_and_a_hundred_times(step: int) -> None:
    mate = controller("r002", Kept((0, 2), (1, 3)))
    for day in (0, 1):
        for n in range(1_000):
            counter = mate.members["r001"].kept.highest[0] + step
            mate.handle(THIEF, Known(microgrid="r001", highest=(counter, 3), manages=True), 100.1 + day * 86_400 + n)
        assert mate.members["r001"].kept.highest[0] == 1 + (day + 1) * (RAISES if step == 1 else EPOCH_STEP)


def test_its_own_beats_may_keep_its_own_microgrid_and_make_no_takeover_of_another() -> None:
    mate = controller("r002", Kept((0, 2), (1, 1)))
    says = Bits(able=frozenset(ORDER), manages=frozenset(ORDER))
    for tenth in range(1, 300):
        effects = mate.beat(THIEF, Beat(says, tenth), 100 + tenth / 10)
        if tenth % 33 == 0:
            mate.signs.sign("r001", 100 + tenth / 10)
            mate.signs.sign(UTILITY, 100 + tenth / 10)
        effects += mate.tick(100 + tenth / 10)
        assert not [effect for effect in effects if isinstance(effect, Begin)]

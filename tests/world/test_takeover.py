"""Takeover in worlds of a clique: who manages a microgrid after each fault, how soon, and never two at once.

Seeded worlds with readings, bugs that they must find, and what a person would notice after one fault.
"""

from collections.abc import Callable
from functools import partial
from random import Random

import pytest

from commonwatt.clique.messages import Known, Tell
from commonwatt.protocol.topics import UTILITY
from gateway.clique.core import CliqueCore
from gateway.clique.effects import EpochPair, Post
from gateway.clique.member import RETRY_S, MemberState
from harness.clique.exhaustive import Bounds, BrokenError, Explorer
from harness.world.campaign import attempt
from harness.world.clique.begun import begun, home, passes, taken_over
from harness.world.clique.faults import Thief
from harness.world.clique.part import NAMES, ORDERS, RANKS
from harness.world.clique.planted import CLIQUE_BUGS
from harness.world.clique.watch import TRANSITIONS, manager
from harness.world.clique.world import CliqueWorld
from harness.world.found import FOUND_IN_CLIQUE
from harness.world.story import Violation
from harness.world.world import Options

SEED = 8  # it shows every change of states
# A store that fails within the milliseconds of a claim, or of a return.
RARE = {(MemberState.CLAIMS, MemberState.DOUBTS), (MemberState.YIELDS, MemberState.DOUBTS)}
SHORT = Options(hours=0.25, kind="clique")


def test_worlds_of_a_clique_keep_every_promise() -> None:
    """Whatever happens one manages, and no reading is lost; a change of states that docs/controllers.md lacks fails."""
    result = attempt(SEED, SHORT)
    if isinstance(result, Violation):
        pytest.fail(str(result), pytrace=False)
    for seen in (
        "takeovers",
        "crashes",
        *(f"{before} to {after}" for before, after in TRANSITIONS if (before, after) not in RARE),
    ):
        assert result.counts.get(seen), f"world {SEED} had no {seen}"


def test_the_same_seed_is_the_same_world_of_a_clique() -> None:
    one, other = (attempt(1, Options(hours=0.25, kind="clique", bug="a term that is not durable")) for _ in range(2))
    assert isinstance(one, Violation)
    assert str(one) == str(other)


@pytest.mark.parametrize(
    ("dead", "has_utility"),
    [(("r001",), True), (("r002",), False), (("r001", "r002"), False), (("r001", "r003"), True)],
    ids=str,
)
def test_the_managers_are_those_of_the_table(dead: tuple[str, ...], has_utility: bool) -> None:  # req: P1
    with begun(has_utility=has_utility) as world:
        kill(world, *dead)
        passes(world, 60)
        alive = [name for name in NAMES if name not in dead]
        assert home(world) == {name: manager(ORDERS[name], alive) for name in NAMES}


@pytest.mark.parametrize(
    ("dead", "has_utility", "within_s"),
    [(("r001",), True, 5), (("r001",), False, 5), (("r001", "r003"), False, 9), (("r001", "utility"), True, 15)],
    ids=["one", "one without the utility", "two without the utility", "one with the utility"],
)
def test_another_one_commands_within_seconds(dead: tuple[str, ...], has_utility: bool, within_s: float) -> None:
    with begun(has_utility=has_utility) as world:
        lost = world.monotonic
        kill(world, *dead)
        passes(world, within_s)
        assert taken_over(world, "r001", lost)


def test_a_planned_stop_is_no_loss() -> None:
    with begun(has_utility=False) as world:
        gateway = world.gateways["r001"]
        for beat in gateway.part.takeover.leave():
            gateway.part.socket.send(0, beat)
        passes(world, 0.5)
        gateway.crash(60)
        world.watch.changed = world.monotonic + 90
        passes(world, 90)
        assert home(world) == dict(zip(NAMES, NAMES, strict=True))
        assert len(world.grants) == len(NAMES), "nobody was granted anything"


@pytest.mark.parametrize(
    ("bounds", "takeovers"),
    [
        (Bounds(faults=1, losses=1, ticks=1), 20),
        # A quarter of a minute of a core, no programs of others.
        pytest.param(Bounds(faults=1, losses=1, ticks=2), 50, marks=pytest.mark.real),
        pytest.param(Bounds(faults=2, ticks=4), 50, marks=pytest.mark.real),
    ],
    ids=str,
)
def test_after_every_schedule_of_faults_one_manages(bounds: Bounds, takeovers: int) -> None:
    seen = Explorer(bounds).explore()
    assert seen.takeovers > takeovers


@pytest.mark.parametrize("bug", ["a term that is not durable", "a fenced manager commands on"])
def test_the_small_world_finds_what_is_taken_away(bug: str) -> None:
    with CLIQUE_BUGS[bug].plant(), pytest.raises(BrokenError):
        Explorer(Bounds(faults=1)).explore()


def test_recorded_datagrams_sent_each_second_keep_no_dead_controller_alive() -> None:
    with begun() as world:
        recorded = len(world.recorded)
        passes(world, 10)
        last = [each for each in world.recorded[recorded:] if each.source == "r001"]
        kill(world, "r001")
        for _ in range(20):
            for each in last:
                world.arrive(each)
            passes(world, 1)
        assert home(world)["r001"] == "r002"


# What needs so many things at once that no seed was found for it.


def kill(world: CliqueWorld, *names: str) -> None:
    """End processes, for good."""
    for name in names:
        (world.utility if name == "utility" else world.gateways[name]).crash(1e9)


def cut_off(world: CliqueWorld, name: str, *others: str) -> None:
    """Cut the lines between a controller and some others."""
    world.cut |= {line for other in others for line in ((name, other), (other, name))}


def hide(world: CliqueWorld, name: str, microgrid: str, which: slice) -> None:
    """Let a controller not reach some meters of a microgrid."""
    for meter in list(world.fleets[microgrid].meters)[which]:
        world.fleets[microgrid].link_to(meter, name).partition(1e9)


def until(world: CliqueWorld, holds: Callable[[], bool], within_s: float) -> None:
    """Let time pass until something holds."""
    end = world.monotonic + within_s
    while not holds():
        assert world.monotonic < end
        passes(world, 0.05)


def alone_with_the_last_meters(world: CliqueWorld, name: str) -> None:
    """Let a controller start again, when it reaches nobody but the last two meters of r001."""
    kill(world, name)
    cut_off(world, name, *NAMES, "utility")
    hide(world, name, "r001", slice(2))
    world.gateways[name].boot()
    passes(world, 8)


def test_a_deposed_manager_knows_it_after_a_restart_though_the_meters_that_it_reaches_do_not() -> None:
    with begun() as world:
        hide(world, "r002", "r001", slice(2, None))
        world.gateways["r001"].pause()
        passes(world, 10)
        world.gateways["r001"].go_on()
        passes(world, 5)
        assert world.watch.managers("r001") == ["r002"]
        alone_with_the_last_meters(world, "r001")
        assert world.watch.managers("r001") == ["r002"]


def test_a_manager_that_gave_back_knows_it_after_a_restart_though_the_meters_that_it_reaches_do_not() -> None:
    with begun(has_utility=False) as world:
        world.gateways["r001"].crash(30)
        passes(world, 35)
        until(world, lambda: world.watch.managers("r001") == ["r001"], 120)
        hide(world, "r001", "r001", slice(2, None))
        alone_with_the_last_meters(world, "r002")
        assert world.watch.managers("r001") == ["r001"]


def test_nothing_is_given_back_to_an_owner_that_died_again_meanwhile() -> None:
    with begun(has_utility=False) as world:
        # It came back once, so that an answer that it can take its microgrid is known.
        world.gateways["r001"].crash(60)
        passes(world, 170)
        assert home(world)["r001"] == "r001"
        passes(world, RETRY_S)
        world.gateways["r001"].crash(60)
        line = world.gateways["r002"].part.takeover.signs.lines["r001"]
        # It dies with its last sign just given, some seconds before it would be steady for long enough.
        until(
            world,
            lambda: line.steady_s("r001", world.monotonic) > 57.2 and world.monotonic - line.heard < 0.3,
            130,
        )
        kill(world, "r001")
        for _ in range(100):
            passes(world, 0.2)
            assert home(world)["r001"] == "r002"


def test_a_third_member_that_never_heard_the_manager_has_not_seen_its_loss() -> None:
    with begun(has_utility=False, cut=[("r001", "r003"), ("r003", "r001")]) as world:
        cut_off(world, "r001", "r002")
        passes(world, 60)
        assert world.watch.managers("r001") == ["r001"], "its meters have answers of it"


def test_who_voted_that_a_manager_is_lost_does_not_confirm_it() -> None:
    with begun(has_utility=False) as world:
        world.gateways["r001"].pause()
        until(world, lambda: "r002" in world.watch.managers("r001"), 15)
        cut_off(world, "r002", "r001", "r003")
        hide(world, "r001", "r001", slice(None))
        passes(world, 2)
        world.gateways["r001"].go_on()
        passes(world, 20)
        assert "r001" not in world.watch.managers("r001")


def test_a_grant_that_nobody_saw_before_its_store_was_lost_is_not_made_again() -> None:
    with begun(has_utility=False) as world:
        kill(world, "r001", "r003")
        until(world, lambda: len(world.grants) > len(NAMES), 60)
        world.gateways["r002"].lose_store(1)
        passes(world, 60)
        assert home(world)["r001"] == "r002"


def test_a_utility_that_was_cut_off_takes_nobody_for_lost_that_it_has_not_heard_since() -> None:
    with begun() as world:
        cut_off(world, "utility", *NAMES)
        passes(world, 30)
        kill(world, "r001")
        passes(world, 40)
        assert home(world)["r001"] == "r002"
        granted = len(world.grants)
        world.cut.clear()
        cut_off(world, "r002", "utility")
        passes(world, 25)
        world.cut.clear()
        passes(world, 30)
        assert len(world.grants) == granted


def test_a_manager_that_is_confirmed_tells_the_utility_before_that_grants_it_anew() -> None:
    post = Post(microgrid="r001", own="r001", order=ORDERS["r001"], ranks=RANKS, meters=4)
    core = CliqueCore("r001", [post], {"r001": EpochPair((1, 1), (1, 1))}, 0.0)
    effects = core.handle("r002", Known(microgrid="r001", highest=(1, 1)), 0.1)
    told = Known(microgrid="r001", highest=(1, 1), manages=True)
    assert Tell(UTILITY, told) in effects


def test_a_manager_that_says_it_can_not_command_is_replaced_though_it_acknowledges() -> None:
    with begun(has_utility=False) as world:
        kill(world, "r002")
        passes(world, 40)
        assert home(world)["r002"] == "r003"
        hide(world, "r003", "r002", slice(2))
        passes(world, 260)
        assert taken_over(world, "r002", 0.0)
        by = {epoch[1] for name, epoch in world.grants if name == "r002"}
        assert RANKS["r001"] in by, "the meters that r003 still reaches have its acknowledgements"


def test_a_stolen_controller_that_says_anything_exhausts_nothing() -> None:
    with begun() as world:
        kill(world, "r002")
        Thief(world, "r002", world.time + 240, Random(1))
        passes(world, 245)  # the world looks at all counters
        assert home(world)["r001"] is not None


def test_counters_that_meters_invent_depose_nobody_and_lift_no_claim_out_of_reach() -> None:
    with begun(has_utility=False) as world:
        fleet = world.fleets["r001"]
        fleet.says = {meter: (2**31 + n, RANKS["r003"]) for n, meter in enumerate(list(fleet.meters)[:2])}
        passes(world, 60)
        assert home(world)["r001"] == "r001"
        hide(world, "r002", "r001", slice(3, None))  # one of two answers is invented
        kill(world, "r001", "r003")
        passes(world, 30)
        claims = [epoch[0] for name, epoch in world.grants if name == "r001" and epoch[1] == RANKS["r002"]]
        assert 0 < max(claims) < 1_000


FOUND_BY: dict[str, Callable[[], None]] = {
    "one word that raises without end": test_a_stolen_controller_that_says_anything_exhausts_nothing,
    "a thief that raises all day": test_a_stolen_controller_that_says_anything_exhausts_nothing,
    "a counter that meters invent": test_counters_that_meters_invent_depose_nobody_and_lift_no_claim_out_of_reach,
    "a claim above whatever a meter says": (
        test_counters_that_meters_invent_depose_nobody_and_lift_no_claim_out_of_reach
    ),
    "the asker's own acknowledgement ends its claim": partial(
        test_another_one_commands_within_seconds, ("r001", "r003"), has_utility=False, within_s=9
    ),
    "a dead manager hidden by a living collector": (
        test_a_manager_that_says_it_can_not_command_is_replaced_though_it_acknowledges
    ),
    "a yield to whom an old answer names": test_nothing_is_given_back_to_an_owner_that_died_again_meanwhile,
    "a vote without a sign": test_a_third_member_that_never_heard_the_manager_has_not_seen_its_loss,
    "a voter that confirms whom it voted against": test_who_voted_that_a_manager_is_lost_does_not_confirm_it,
    "the same claim after a lost store": test_a_grant_that_nobody_saw_before_its_store_was_lost_is_not_made_again,
    "a deposition that is not durable": (
        test_a_deposed_manager_knows_it_after_a_restart_though_the_meters_that_it_reaches_do_not
    ),
    "a yield that is not durable": (
        test_a_manager_that_gave_back_knows_it_after_a_restart_though_the_meters_that_it_reaches_do_not
    ),
    "a confirmed manager that keeps it to itself": (
        test_a_manager_that_is_confirmed_tells_the_utility_before_that_grants_it_anew
    ),
    "a utility that grants as soon as it starts": (
        test_a_utility_that_was_cut_off_takes_nobody_for_lost_that_it_has_not_heard_since
    ),
    "an acknowledgement that outweighs the manager's own word": (
        test_a_manager_that_says_it_can_not_command_is_replaced_though_it_acknowledges
    ),
}


def test_every_planted_bug_has_a_seed_or_a_test() -> None:
    assert FOUND_BY.keys() | FOUND_IN_CLIQUE.keys() == CLIQUE_BUGS.keys()


def test_a_planted_bug_that_lifts_a_counter_out_of_reach_is_found() -> None:
    """The one of its invariant; those of the others have seeds."""
    bug = "a claim above whatever a meter says"
    with CLIQUE_BUGS[bug].plant(), pytest.raises(Violation, match="I-h"):
        FOUND_BY[bug]()


@pytest.mark.real  # half a minute of a core, no programs of others
@pytest.mark.parametrize("bug", FOUND_BY)
def test_a_planted_bug_that_no_seed_shows_is_found(bug: str) -> None:
    with CLIQUE_BUGS[bug].plant(), pytest.raises(AssertionError):
        FOUND_BY[bug]()

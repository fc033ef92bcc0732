"""A microgrid that a clique grants: from the grant on all of its meters are commanded under the new epoch."""

from commonwatt.cliques.signs import Signs
from commonwatt.model.effects import Publish
from commonwatt.model.time.now import Now, Trust
from commonwatt.protocol.topics import UTILITY
from gateway.control.manager import Manager
from gateway.core import RETRY
from gateway.takeover.effects import Kept
from gateway.takeover.member import Member
from gateway.takeover.post import Post
from harness.surroundings.gateway import START, World, commands

NOW = Now(START, Trust.NETWORK)


def successor() -> Member:
    """Return the part of r002 in the microgrid of r001."""
    post = Post(microgrid="r001", own="r002", order=("r001", "r002"), ranks={"r001": 1, "r002": 2}, meters=4)
    return Member(post, Kept((0, 2), (0, 0)), Signs(("r001", UTILITY), 0.0), 0.0, 1)


def test_a_grant_initializes_also_the_meters_that_named_the_manager_before(world: World) -> None:
    member = successor()
    manager = Manager(world.settings, "r001", world.store, world.meters, member)
    for meter in (1, 2):
        manager.epochs.reported(meter, (1, 1))
    manager.epochs.reported(3, (9, 3))
    member.kept, member.sure = Kept((3, 2), (3, 2)), True
    sent = [effect for effect in manager.begin(NOW) if isinstance(effect, Publish)]
    assert [(effect.topic.split("/")[2], one.cmd) for effect in sent for one in commands([effect])] == [
        ("1", "initialize"),
        ("2", "initialize"),
        ("4", "initialize"),
    ], "meter 3 has a newer manager"


def test_a_meter_that_was_not_connected_is_initialized_soon_after_it_is_heard(world: World) -> None:
    assert initialized(world) == {"1", "2", "3", "4"}
    world.now += 20
    world.level(3, 80)
    assert initialized(world) == {"3"}
    world.level(3, 81)
    assert initialized(world) == set(), "it is asked once, and again after a minute"


def initialized(world: World) -> set[str]:
    """Return the meters that one step initializes."""
    sent = world.tick(RETRY)
    return {one.topic.split("/")[2] for one in sent for command in commands([one]) if command.cmd == "initialize"}

"""A microgrid that a clique grants: from the grant on all of its meters are commanded under the new epoch."""

from commonwatt.cliques.signs import Signs
from commonwatt.model.effects import Publish
from commonwatt.model.now import Now, Trust
from commonwatt.protocol.topics import UTILITY
from gateway.control.manager import Manager
from gateway.takeover.effects import Kept
from gateway.takeover.member import Member, Post
from harness.worlds.gateway import START, World, commands

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

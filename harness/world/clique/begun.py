"""Worlds of a clique without faults of the seed's, for tests and benchmarks that make their own."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from commonwatt.model.units import ControllerId, MicrogridId
from harness.world.campaign import few
from harness.world.clique.part import RANKS
from harness.world.clique.watch import BEGINS_S
from harness.world.clique.world import CliqueWorld
from harness.world.world import Options


@contextmanager
def begun(seed: int = 1, *, has_utility: bool = True, cut: Collection[tuple[str, str]] = ()) -> Iterator[CliqueWorld]:
    """Yield a world in which everybody knows everybody, with the utility or without it.

    Args:
        cut: Lines that are cut from the begin.
    """
    options = Options(kind="clique")
    with few(options):
        world = CliqueWorld(seed, options)
        try:
            world.cut |= set(cut)
            for node in world.nodes:
                if has_utility or node is not world.utility:
                    node.boot()
            world.run_until(world.time + BEGINS_S)
            yield world
        finally:
            world.close()


def passes(world: CliqueWorld, seconds: float) -> None:
    """Let time pass, after a change."""
    world.watch.changed = max(world.watch.changed, world.monotonic)
    world.run_until(world.time + seconds)


def taken_over(world: CliqueWorld, microgrid: MicrogridId, since: float) -> list[float]:
    """Return when the meters of a microgrid first obeyed another controller than its own after a time, ascending."""
    own, first = RANKS[microgrid], dict[int, float]()
    for at, meter, epoch in world.fleets[microgrid].obeyed:
        if at > since and epoch[1] != own:
            first.setdefault(meter, at)
    return sorted(first.values())


def home(world: CliqueWorld) -> dict[MicrogridId, ControllerId | None]:
    """Return who manages each microgrid."""
    return {name: world.watch.managed(name) for name in RANKS}

"""Run the world of a seed, of any kind, with a planted bug or without."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from unittest.mock import patch

from gateway import upkeep
from gateway.relay import relay
from harness.world import disks
from harness.world.clique.planted import CLIQUE_BUGS
from harness.world.clique.world import CliqueWorld
from harness.world.energy.planted import ENERGY_BUGS
from harness.world.energy.world import EnergyWorld
from harness.world.month.planted import MONTH_BUGS
from harness.world.month.utility import hurried
from harness.world.month.world import MonthWorld
from harness.world.planted import BUGS, Bug
from harness.world.story import Violation
from harness.world.world import Options, Run, World

KINDS: dict[str, tuple[type[World], dict[str, Bug]]] = {
    "readings": (World, BUGS),
    "energy": (EnergyWorld, ENERGY_BUGS),
    "clique": (CliqueWorld, CLIQUE_BUGS),
    "month": (MonthWorld, MONTH_BUGS),
}
"""By kind of world: its class, and the bugs that can be planted in it."""


def simulate(seed: int, options: Options | None = None) -> Run:
    """Run the world of a seed."""
    options = options or Options()
    with few(options) as bug:
        return _simulate(KINDS[options.kind][0](seed, options, bug.unsynced))


def attempt(seed: int, options: Options) -> Run | Violation:
    """Run one world; return its violation instead of raising it."""
    try:
        return simulate(seed, options)
    except Violation as violation:
        return violation


@contextmanager
def few(options: Options) -> Iterator[Bug]:
    """Let a core take small steps, with a planted bug or without; yield the bug."""
    bug = _bug(options)
    # Checking undamaged parts would be a fifth of the work. Restoring a lost backup takes several steps.
    few_parts, few_rows = patch.object(upkeep, "EXAMINED_PARTS", 5), patch.object(relay, "FORGET_ROWS", 20)
    with few_parts, few_rows, disks.over(), hurried() if options.kind == "month" else nullcontext(), bug.plant():
        # What a process logs of a damaged store stands in the world's story.
        logging.disable()
        try:
            yield bug
        finally:
            logging.disable(logging.NOTSET)


def _bug(options: Options) -> Bug:
    return KINDS[options.kind][1][options.bug] if options.bug else Bug()


def _simulate(world: World) -> Run:
    try:
        return world.run()
    except Violation:
        raise
    except Exception as error:
        try:
            world.fail(f"core: {type(error).__name__}: {error}")
        except Violation as violation:
            raise violation from error
    finally:
        world.close()

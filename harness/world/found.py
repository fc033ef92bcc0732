"""The world in which each planted bug is found: ``python -m harness.world.found`` searches anew (make soak)."""

import sys
from time import process_time

from harness.world import campaign
from harness.world.energy.planted import ENERGY_BUGS
from harness.world.planted import BUGS
from harness.world.run import KINDS, attempt
from harness.world.story import Violation
from harness.world.world import Options

HOURS = 1.0  # of each world
CLIQUE_HOURS = 0.25  # of each world of a clique
SEEDS = 100  # worlds in which a bug must bite

FOUND_AT: dict[str, int] = {
    "a join that adds": 7,
    "ids used for identity": 2,
    "no access rules": 3,
    "commits of gateways not synced": 3,
    "commits of the utility not synced": 4,
    "commits of meters not synced": 3,
    "a new utility gets no backup": 2,
    "a database that went back is not noticed": 2,
    "pairs not kept": 2,
    "rows of a log in another order": 2,
    "a refusal taken for an acknowledgement": 3,
    "a log without a limit": 3,
    "meters' store syncs at checkpoints alone": 3,
    "a gateway's store syncs at checkpoints alone": 3,
    "a backup that stops after a step": 5,
    "a wait in milliseconds": 3,
    "records merged over a gap": 18,
    "commands obeyed after their end": 2,
    "averages beside exact slots": 29,
    "batches never given up": 3,
    "commands judged by a clock that lags behind": 43,
    "a clock trusted from the start": 38,
    "a recovery without parts": 8,
    "a utility that trusts its clock": 4,
}
"""By planted bug of delivery: a seed that finds it soon; the others are found by seed 1."""

FOUND_IN_ENERGY: dict[str, tuple[str, int]] = {
    "a switch that closes on a dead line": ("E3", 37),
    "a switch that waits for no stable voltage": ("E3", 3),
    "a switch that does not trip": ("E2", 1),
    "an export to a dead feeder": ("E1", 4),
    "a manager that closes at once": ("E3", 1),
    "late reports of the boundary count": ("E4", 2),
    "notices are obeyed": ("E4", 6),
    "a broadband cut that islands": ("E4", 24),
    "a restart that forgets the island": ("E9", 2),
    "commands to share below a floor": ("E5", 1),
    "a battery that shares below its floor": ("E5", 23),
    "sharing that outlives its command": ("I7", 2),
    "two purchases for a quarter-hour": ("E7", 15),
    "a purchase that begins anew at a start": ("E7", 6),
    "a ration on the hospital": ("E6", 1),
    "an import above its limit": ("E8", 31),
    "a limit that outlives its supply": ("E8", 1),
    "a supply in the field of isolation": ("E4", 1),
    "minutes for seconds": ("E8", 1),
    "batteries in another order": ("E5", 2),
    "a purchase that counts nothing": ("E7", 2),
    "a switch that forgets that it is open": ("E3", 4),
}
"""By planted bug of energy: the invariant that catches it, and a seed that finds it soon."""

FOUND_IN_CLIQUE: dict[str, tuple[str, int]] = {
    "a put forgotten on a move": ("I1/I3", 3),
    "a put merged on a move": ("I3", 10),
    "a session kept with a revoked controller": ("I-e", 6),
    "a dead pin that is never left": ("I6", 9),
    "beats without a session": ("I-d", 2),
    "a beat that counts twice": ("I-g", 38),
    "a beat that is fresh for ever": ("I-g", 1),
    "equal ranks": ("I-e", 1),
    "a term that is not durable": ("I-b", 1),
    "a fenced manager commands on": ("state", 2),
    "a fence forgotten at a restart": ("I-c", 1),
    "a paused manager is sure": ("I-c", 1),
    "the own rank raised without a grant": ("I-b", 8),
    "an epoch adopted from one meter": ("I-b", 5),
    "a grant repeated after a claim": ("I-d", 1),
}
"""The same of planted bugs of takeover; tests/world/test_takeover.py has those that need more than a seed."""

FOUND_IN_MONTH: dict[str, tuple[str, int]] = {
    "late readings mark no day": ("M1", 1),
    "shared energy is credited": ("M1", 1),
    "the new account pays the whole month": ("M1", 3),
    "months of UTC": ("M1", 2),
    "a quarter is billed in two months": ("M1", 1),
    "issued bills are not corrected": ("M1", 8),
    "the first version of a day stays": ("M1", 1),
    "any attempt ends a period": ("M2", 28),
    "late readings take the place of a file's": ("I2", 26),
}
"""The same of planted bugs of settlement, billing and archive."""

SOONEST: dict[str, str] = {
    "I1": "delete on any acknowledgement",
    "I2": "commits of the utility not synced",
    "I3": "relayed when sent",
    "I5": "averages beside exact slots",
    "I6": "a clock trusted from the start",
    "I7": "pairs not kept",
    "I8": "adopt epoch",
    "I10": "a log without a limit",
    "E1": "an export to a dead feeder",
    "E2": "a switch that does not trip",
    "E3": "a manager that closes at once",
    "E4": "a supply in the field of isolation",
    "E5": "commands to share below a floor",
    "E6": "a ration on the hospital",
    "E7": "a purchase that begins anew at a start",
    "E8": "an import above its limit",
    "E9": "a restart that forgets the island",
    "I-b": "a term that is not durable",
    "I-c": "a fence forgotten at a restart",
    "I-d": "a grant repeated after a claim",
    "I-e": "a session kept with a revoked controller",
    "I-g": "a beat that counts twice",
    "state": "a fenced manager commands on",
    "M1": "months of UTC",
    "M2": "any attempt ends a period",
}
"""By invariant: its planted bug that takes least work to find."""

FOUND_BY_INVARIANT = FOUND_IN_ENERGY | FOUND_IN_CLIQUE | FOUND_IN_MONTH


def seed_of(name: str) -> int:
    """Return the seed that is known to find a bug."""
    return FOUND_BY_INVARIANT[name][1] if name in FOUND_BY_INVARIANT else FOUND_AT.get(name, 1)


def options_of(name: str) -> Options:
    """Return the options of the worlds with a bug."""
    kind = next(kind for kind, (_, bugs) in KINDS.items() if name in bugs)
    return Options(hours=CLIQUE_HOURS if kind == "clique" else HOURS, bug=name, kind=kind)


def violation_of(name: str, seed: int) -> Violation | None:
    """Return what a bug violates in the world of a seed."""
    result = attempt(seed, options_of(name))
    return result if isinstance(result, Violation) else None


def found_anew(name: str) -> tuple[int, str, float] | None:
    """Return the first seed that finds a bug by its invariant, the known one before all others; what; core-seconds."""
    invariant = FOUND_BY_INVARIANT.get(name, ("", 0))[0]
    seeds: list[int] = [seed_of(name), *range(1, SEEDS + 1)]
    for seed in seeds:
        began = process_time()
        found = violation_of(name, seed)
        if found is not None and found.what.startswith(invariant):
            return seed, found.what.splitlines()[0], process_time() - began
    return None


def main() -> None:
    """Try each bug with its seed, and print the table; where a seed no longer finds its bug, name another, and fail."""
    names = [*BUGS, *ENERGY_BUGS, *FOUND_IN_CLIQUE, *FOUND_IN_MONTH]
    stale = False
    with campaign.pool() as pool:
        for name, found in zip(names, pool.map(found_anew, names), strict=True):
            if found is None:
                print(f"{name}: none of {SEEDS} worlds finds it")
            else:
                was = "" if found[0] == seed_of(name) else f" (seed {seed_of(name)} no longer finds it)"
                print(f"{name}: {found[1][:80]}; seed {found[0]}, {found[2]:.1f} s{was}", flush=True)
            stale |= found is None or found[0] != seed_of(name)
    print(f"{len(names)} planted bugs")
    sys.exit(1 if stale else 0)


if __name__ == "__main__":
    main()

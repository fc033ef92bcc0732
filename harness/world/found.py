"""The world in which each planted bug is found: ``python -m harness.world.found`` searches anew (make soak)."""

import sys
from time import process_time

from harness.world import campaign
from harness.world.campaign import KINDS, attempt
from harness.world.story import Violation
from harness.world.world import Options

HOURS = {"readings": 1.0, "energy": 1.0, "clique": 0.25, "month": 0.5}
"""By kind of world: its length, in which a bug must bite; it ends with that."""

SEEDS = 100  # worlds in which a bug must bite

FOUND_IN_READINGS: dict[str, tuple[str, int]] = {
    "acknowledge before commit": ("I1/I3", 1),
    "commits of gateways not synced": ("I1", 13),
    "commits of the utility not synced": ("I2", 4),
    "commits of meters not synced": ("I7", 3),
    "a join that adds": ("I6", 7),
    "delete on any acknowledgement": ("I1/I3", 1),
    "ids used for identity": ("I1/I3", 2),
    "states without an end": ("I7", 1),
    "commands obeyed after their end": ("I7", 2),
    "no fence": ("I8", 1),
    "failed commits acknowledged": ("I2/I3", 1),
    "averages beside exact slots": ("I5", 29),
    "deleted when sent": ("I1/I3", 1),
    "relayed when sent": ("I3", 1),
    "any acknowledgement of a batch believed": ("I2/I3", 1),
    "batches never given up": ("I6", 3),
    "a new utility gets no backup": ("I6", 2),
    "a database that went back is not noticed": ("I6", 2),
    "commands judged by a clock that lags behind": ("I7", 43),
    "adopt epoch": ("I8", 1),
    "pairs not kept": ("I7", 17),
    "a clock trusted from the start": ("I6", 38),
    "no access rules": ("I6", 3),
    "records of other meters taken": ("I2/I3", 1),
    "rows of a log in another order": ("core", 2),
    "a refusal taken for an acknowledgement": ("I1/I3", 3),
    "a log without a limit": ("I10", 30),
    "epochs compared without their rank": ("I7", 1),
    "meters' store syncs at checkpoints alone": ("I7", 3),
    "records merged over a gap": ("I6", 18),
    "a gateway's store syncs at checkpoints alone": ("I1", 3),
    "a backup that stops after a step": ("I6", 5),
    "a wait in milliseconds": ("I6", 3),
    "a recovery without parts": ("I1", 8),
    "a utility that trusts its clock": ("I2", 4),
    "a compactor that keeps the last part": ("I6", 1),
}
"""By planted bug of delivery: the invariant that catches it, and a seed that finds it soon."""

FOUND_IN_ENERGY: dict[str, tuple[str, int]] = {
    "a switch that closes on a dead line": ("E3", 37),
    "a switch that waits for no stable voltage": ("E3", 3),
    "a switch that does not trip": ("E2", 1),
    "an export to a dead feeder": ("E1", 121),
    "a manager that closes at once": ("E3", 36),
    "late reports of the boundary count": ("E4", 2),
    "notices are obeyed": ("E4", 6),
    "a broadband cut that islands": ("E4", 24),
    "a restart that forgets the island": ("E9", 3),
    "commands to share below a floor": ("E5", 1),
    "a battery that shares below its floor": ("E5", 23),
    "sharing that outlives its command": ("I7", 2),
    "two purchases for a quarter-hour": ("E7", 15),
    "a purchase that begins anew at a start": ("E7", 6),
    "a ration on the hospital": ("E6", 23),
    "an import above its limit": ("E8", 31),
    "a limit that outlives its supply": ("E8", 1),
    "a supply in the field of isolation": ("E4", 1),
    "minutes for seconds": ("E8", 1),
    "batteries in another order": ("E5", 2),
    "a purchase that counts nothing": ("E7", 2),
    "a switch that forgets that it is open": ("E3", 4),
}
"""The same of planted bugs of energy."""

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
    "a fenced manager commands on": ("state", 27),
    "a fence forgotten at a restart": ("I-c", 1),
    "a paused manager is sure": ("I-c", 1),
    "the own rank raised without a grant": ("I-b", 8),
    "an epoch adopted from one meter": ("I-b", 5),
    "a grant repeated after a claim": ("I-d", 30),
}
"""The same of planted bugs of takeover; tests/world/test_takeover.py has those that need more than a seed."""

FOUND_IN_MONTH: dict[str, tuple[str, int]] = {
    "late readings mark no day": ("M1", 1),
    "shared energy is credited": ("M1", 1),
    "the new account pays the whole month": ("M1", 3),
    "months of UTC": ("M1", 2),
    "a quarter is billed in two months": ("M1", 1),
    "issued bills are not corrected": ("M1", 35),
    "the first version of a day stays": ("M1", 1),
    "any attempt ends a period": ("M2", 28),
}
"""The same of planted bugs of settlement and billing."""

FOUND = FOUND_IN_READINGS | FOUND_IN_ENERGY | FOUND_IN_CLIQUE | FOUND_IN_MONTH

SOONEST: dict[str, str] = {
    "I1": "commits of gateways not synced",
    "I1/I3": "delete on any acknowledgement",
    "I2": "commits of the utility not synced",
    "I2/I3": "records of other meters taken",
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
    "core": "rows of a log in another order",
    "M1": "late readings mark no day",
    "M2": "any attempt ends a period",
}
"""By invariant: its planted bug that takes least work to find; those of takeover without a seed have I-h."""


def options_of(name: str) -> Options:
    """Return the options of the worlds with a bug."""
    kind = next(kind for kind, (_, bugs) in KINDS.items() if name in bugs)
    return Options(hours=HOURS[kind], bug=name, kind=kind)


def violation_of(name: str, seed: int) -> Violation | None:
    """Return what a bug violates in the world of a seed."""
    result = attempt(seed, options_of(name))
    return result if isinstance(result, Violation) else None


def found_anew(name: str) -> tuple[int, str, float] | None:
    """Return the first seed that finds a bug by its invariant, the known one before all others; what; core-seconds."""
    invariant, known = FOUND[name]
    for seed in (known, *range(1, SEEDS + 1)):
        began = process_time()
        found = violation_of(name, seed)
        if found is not None and found.invariant == invariant:
            return seed, found.what.splitlines()[0], process_time() - began
    return None


def main() -> None:
    """Try each bug with its seed, and print the table; where a seed no longer finds its bug, name another, and fail."""
    stale = False
    with campaign.pool() as pool:
        for (name, (_, known)), found in zip(FOUND.items(), pool.map(found_anew, FOUND), strict=True):
            if found is None:
                print(f"{name}: none of {SEEDS} worlds finds it")
            else:
                was = "" if found[0] == known else f" (seed {known} no longer finds it)"
                print(f"{name}: {found[1][:80]}; seed {found[0]}, {found[2]:.1f} s{was}", flush=True)
            stale |= found is None or found[0] != known
    print(f"{len(FOUND)} planted bugs")
    sys.exit(1 if stale else 0)


if __name__ == "__main__":
    main()

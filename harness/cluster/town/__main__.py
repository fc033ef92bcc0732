"""Fails each part of a cluster in each way, and compares all readings: ``python -m harness.cluster.town``."""

import argparse
import random
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from harness.cluster.town.faults import GOAL_S, ROLES, WAYS, Stored, suffer, two_away, upgraded
from harness.cluster.town.parts import ClusterTown


def main() -> int:
    """Run; return 1 if a pause is above the goal, or something was lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=5, help="how often each role fails in each way")
    parser.add_argument("--away-s", type=float, default=600, help="seconds for which both standbys are away; 0: never")
    parser.add_argument("--seed", type=int, default=1, help="of the order of the faults")
    parser.add_argument("--role", choices=ROLES, action="append", help="only these roles")
    parser.add_argument("--way", choices=WAYS, action="append", help="only these ways")
    options = parser.parse_args()
    faults = [(role, way) for role in options.role or ROLES for way in options.way or WAYS for _ in range(options.each)]
    random.Random(options.seed).shuffle(faults)
    pauses: dict[tuple[str, str], list[float]] = defaultdict(list)
    good = True
    with tempfile.TemporaryDirectory() as folder, ClusterTown(Path(folder) / "logs") as town:
        town.set_up()
        with Stored(town) as stored:
            for number, (role, way) in enumerate(faults, 1):
                seen = suffer(town, stored, role, way)
                pauses[role, way].append(seen.pause_s)
                print(f"{number}/{len(faults)} {role} {way} ({seen.who}): {seen.pause_s:.1f} s", flush=True)
            upgraded(town)
            print("utilities and databases restarted in turn", flush=True)
            if options.away_s:
                for with_etcd, seconds in ((True, 90), (False, options.away_s)):
                    count = two_away(town, stored, seconds, with_etcd=with_etcd)
                    good = good and count == 0
                    what = "two machines" if with_etcd else "both standbys"
                    print(f"{what} away for {seconds:g} s: {count} times stored meanwhile", flush=True)
        began = time.monotonic()
        print(town.audit())
        print(f"compared within {time.monotonic() - began:.0f} s; decided twice: {town.doubled() or 'nothing'}")
        good = good and not town.doubled()
    for (role, way), some in sorted(pauses.items()):
        print(f"{role} {way}: {', '.join(f'{one:.1f}' for one in sorted(some))} s without a stored message")
    return 0 if good and all(one <= GOAL_S for some in pauses.values() for one in some) else 1


if __name__ == "__main__":
    sys.exit(main())

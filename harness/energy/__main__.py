"""Compare the physics with its reference: ``python -m harness.energy --steps 1000000`` (in ``make soak``)."""

import argparse
import sys

from harness.energy.compare import check

MICROGRIDS = 50  # microgrids of each random town


def main() -> None:
    """Run random microgrid-steps; exit with an error at the first fault."""
    parser = argparse.ArgumentParser(prog="python -m harness.energy", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--steps", type=int, default=1_000_000, help="microgrid-steps, one in each of many random towns"
    )
    parser.add_argument("--seed", type=int, default=0, help="the first town's seed")
    chosen = parser.parse_args()
    towns = -(-chosen.steps // MICROGRIDS)
    for town in range(towns):
        if found := check(chosen.seed + town, MICROGRIDS):
            sys.exit(f"seed {chosen.seed + town}: {len(found)} faults\n" + "\n".join(found[:10]))
    print(f"{towns * MICROGRIDS:,} microgrid-steps: conserved to 0 mWh, no mismatch with the reference")


if __name__ == "__main__":
    main()

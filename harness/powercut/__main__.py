"""Cut the power of a gateway and a utility many times: ``python -m harness.powercut --cuts 1000``."""

import argparse
import sys
import tempfile
from pathlib import Path

from harness.powercut.bench import OPENING, Bench
from harness.powercut.recovered import power_cuts

CUTS_A_ROUND = 100
MESSAGES_A_ROUND = 300


def main() -> None:
    """Run rounds, each from empty stores, until all cuts are made."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Bench(Path(folder)) as bench:
        made = 0
        while made < arguments.cuts:
            cuts = min(CUTS_A_ROUND, arguments.cuts - made)
            for name, recording in bench.record(MESSAGES_A_ROUND).items():
                for cut in power_cuts(recording, OPENING[name], cuts=cuts, seed=arguments.seed + made):
                    if cut.amiss:
                        sys.exit(f"{name} (seed {arguments.seed + made}): {cut.amiss[:10]} at {cut.position}")
                print(f"{name}: {cuts} cuts, {len(recording.acknowledged)} messages acknowledged", flush=True)
            made += cuts
            print(f"{made} of {arguments.cuts} cuts, nothing acknowledged was lost", flush=True)


if __name__ == "__main__":
    main()

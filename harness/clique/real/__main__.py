"""How soon meters of a lost controller obey the next one: python -m harness.clique.real RUNS (make takeover)."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory

from commonwatt.clique.beats import BEAT_S
from harness.clique.real.namespaces import why_not
from harness.clique.real.town import LOST, Seen, Town, look, stop_all
from harness.real import forks

AT_ONCE = 4  # towns side by side: each has nine processes that mostly wait


def lose(folder: Path, seed: int) -> Seen:
    """Blackhole the first controller of a new town without a utility, at a random moment between two beats."""
    with closing(Town(folder)) as town:
        town.start_all(utility=False)
        town.settle(utility=False)
        time.sleep(Random(seed).random() * BEAT_S)
        return look(town, lambda: town.machines.blackhole(LOST), all_meters=True)


def main() -> None:
    """Print the times of some losses."""
    if why := why_not():
        sys.exit(why)
    forks.enable()
    with TemporaryDirectory(prefix="takeover-") as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        runs = range(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
        jobs = [pool.submit(lose, Path(folder) / f"town-{seed}", seed) for seed in runs]
        try:
            seen = [job.result() for job in jobs]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            stop_all()
            raise
    for words, found in (
        ("first, with a battery", [one.battery_s for one in seen]), ("last", [one.last_s for one in seen])
    ):  # fmt: skip
        print(f"{words}: least {min(found):.2f} s, median {median(found):.2f} s, most {max(found):.2f} s")
    if broken := [words for one in seen for words in one.broken]:
        sys.exit("\n".join(broken))


if __name__ == "__main__":
    main()

"""Run many seeded worlds on all processor cores; keep the list of failing seeds, and a log of all."""

import gc
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import TextIO

from harness.world.run import attempt
from harness.world.story import Violation
from harness.world.world import Options, Run

SEEDS = Path(__file__).parents[2] / "tests" / "world" / "seeds.txt"
"""Seeds that are always run: each failed once, or shows a rare case."""

REPORT_EVERY_S = 5


@contextmanager
def pool() -> Iterator[ProcessPoolExecutor]:
    """Start one process per core, each with another hash seed."""
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as executor:
        yield executor


class Tally:
    """The results of many worlds."""

    def __init__(self, number: int, log: TextIO | None = None) -> None:
        self.kinds: Counter[str] = Counter()  # faults that happened, by kind
        self.runs = 0  # worlds without a violation
        self.failed: list[Violation] = []  # the violations of the others
        self._number, self._log = number, log
        self._begin = self._reported = perf_counter()
        self._sums: Counter[str] = Counter()

    def add(self, result: Run | Violation) -> None:
        """Add the result of one world; print the progress from time to time."""
        kinds = Counter(name.rpartition(" ")[0] for name in result.struck)
        self.kinds.update(kinds)
        if self._log is not None:
            found = result.what.splitlines()[0] if isinstance(result, Violation) else ""
            self._log.write(json.dumps({"seed": result.seed, "faults": kinds, "found": found}) + "\n")
        if isinstance(result, Violation):
            self.failed.append(result)
            print(result, flush=True)
        else:
            self.runs += 1
            self._sums.update(
                readings=result.readings, messages=result.messages, crashes=result.counts.get("crashes", 0)
            )
        if perf_counter() - self._reported >= REPORT_EVERY_S:
            self._reported = perf_counter()
            print(self.line(), flush=True)

    def line(self) -> str:
        """Return the progress as text."""
        took_s = perf_counter() - self._begin
        done = self.runs + len(self.failed)
        left_s = (self._number - done) * took_s / max(1, done)
        sums = ", ".join(f"{number:,} {what}" for what, number in self._sums.items())
        return (
            f"{done:,} of {self._number:,} worlds in {took_s:.0f} s ({done / took_s:.2f}/s), "
            f"{len(self.failed)} failed, {left_s / 60:.0f} min left; {sums}"
        )


def run_many(executor: ProcessPoolExecutor, seeds: Iterable[int], options: Options, log: TextIO | None = None) -> Tally:
    """Run worlds on all processor cores, and print the progress; ``log`` gets a line of JSON for each."""
    seeds = list(seeds)
    tally = Tally(len(seeds), log)
    for result in executor.map(partial(_attempt, options=options), seeds):
        tally.add(result)
    print(tally.line(), flush=True)
    print("faults:", ", ".join(f"{number:,} {kind}" for kind, number in tally.kinds.most_common()), flush=True)
    return tally


def _attempt(seed: int, options: Options) -> Run | Violation:
    """Run one world; collect its garbage only afterwards: 65 MB more at most, up to a third of the time less."""
    gc.collect()
    gc.disable()
    return attempt(seed, options)


def kept() -> list[int]:
    """Return the seeds that are always run."""
    return [int(line.split()[0]) for line in SEEDS.read_text().splitlines() if line and not line.startswith("#")]


def keep(violation: Violation) -> None:
    """Add a failing seed to the seeds that are always run."""
    if violation.seed not in kept():
        with SEEDS.open("a") as file:
            file.write(f"{violation.seed} {violation.what.splitlines()[0][:100]}\n")

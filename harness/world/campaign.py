"""Runs worlds: of one seed, of many on all cores, and with ever fewer faults as long as it fails.

Faults are left out by delta debugging (Zeller, Hildebrandt: Simplifying and Isolating Failure-Inducing Input, 2002):
ever smaller parts of the list, as long as the same invariant is violated.
"""

import gc
import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import TextIO
from unittest.mock import patch

from gateway.relay import relay
from gateway.store import changes
from harness.world import disks
from harness.world.clique.planted import CLIQUE_BUGS
from harness.world.clique.world import CliqueWorld
from harness.world.energy.planted import ENERGY_BUGS
from harness.world.energy.world import EnergyWorld
from harness.world.month.planted import MONTH_BUGS
from harness.world.month.world import MonthWorld, hurried
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
    few_parts, few_rows = patch.object(changes, "EXAMINED_PARTS", 5), patch.object(relay, "FORGET_ROWS", 20)
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


MOST_TRIES = 400  # worlds that are run for one that failed


def shortest(found: Violation, options: Options) -> tuple[Violation, int]:
    """Return the violation by the fewest faults that was found, and the number of worlds that were run.

    No fault of its list can be left out, unless ``MOST_TRIES`` were not enough.
    """
    tries, parts = 0, 2
    while found.struck and tries < MOST_TRIES:
        size = -(-len(found.struck) // parts)
        for begin in range(0, len(found.struck), size):
            less = _still(found, found.struck[:begin] + found.struck[begin + size :], options)
            tries += 1
            if less is not None:
                found, parts = less, max(2, parts - 1)
                break
        else:
            if size == 1:
                break
            parts = min(len(found.struck), 2 * parts)
    return found, tries


def _still(found: Violation, only: Sequence[str], options: Options) -> Violation | None:
    result = attempt(found.seed, replace(options, only=tuple(only)))
    return result if isinstance(result, Violation) and result.invariant == found.invariant else None


def as_test(found: Violation, options: Options) -> str:
    """Return the text of a test that fails as long as the violation is there."""
    only = replace(options, only=found.struck)
    name = "".join(c if c.isalnum() else "_" for c in found.invariant.lower())
    return (
        f"def test_world_{found.seed}_keeps_{name}() -> None:\n"
        f'    """It violated: {found.what.splitlines()[0]}."""\n'
        f"    assert isinstance(attempt({found.seed}, {only!r}), Run)\n"
    )


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

"""Run benchmarks: ``python -m benchmarks [NAME,NAME]``; with ``--keep`` (``make bench``) for the page of this project.

Each benchmark is a module with one function, ``bench(smoke)``; ``smoke`` makes it as small as possible, which
only shows that it works.
"""

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any

import pytest

from benchmarks.report import OWN, RESULTS, Section, keep, measure
from commonwatt.runtime.allocator import keep_freed_memory

BENCHMARKS: dict[str, float] = {
    "codec": 0.2,
    "control": 0.2,
    "consolidation": 0.2,
    "line": 0.1,
    "physics": 2,
    "gateway_store": 0.3,
    "store": 3.5,
    "gateway_live": 4.5,
    "card": 17,
    "latency": 6.5,
    "island_latency": 8,
    "takeover": 12,
    "half_dead": 0.8,
    "backlog": 3,
    "town_load": 11,
    "sizing": 6,
    "fleet_memory": 6,
    "growth": 2,
    "flood": 3.6,
    "lte": 22,
    "assignments": 2,
    "adapter": 3.5,
    "planner": 5,
    "export": 2,
    "analysis": 1,
    "archive": 4,
    "settlement": 4,
    "usage": 5,
    "billing": 0.5,
    "bill_documents": 1,
    "issued_bills": 1,
    "console": 16,
}
"""Approximate duration of each benchmark in minutes, by module, in the order of the page."""


def benchmark(name: str, *, smoke: bool = False) -> Callable[[], Section]:
    """Return the function that runs a benchmark."""
    module: Any = import_module(f"benchmarks.{name}")
    return partial(module.bench, smoke=smoke)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the named benchmarks, or all; skip benchmarks that can't run on this machine."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "names", nargs="?", default="", help="benchmarks, separated by commas; default: all of " + ", ".join(BENCHMARKS)
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="store the results for the page of this project (make docs)",
    )
    chosen = parser.parse_args(arguments)
    names = [name for name in chosen.names.split(",") if name] or list(BENCHMARKS)
    if unknown := [name for name in names if name not in BENCHMARKS]:
        parser.error(f"no benchmark {unknown[0]}; there are: {', '.join(BENCHMARKS)}")
    keep_freed_memory()  # As the services do.
    started, failed = time.monotonic(), list[str]()
    for place, name in enumerate(names, 1):
        left = sum(BENCHMARKS[each] for each in names[place - 1 :])
        print(f"{place}/{len(names)} {name}, about {BENCHMARKS[name]:g} min ({left:g} min left)", flush=True)
        try:
            result = measure(benchmark(name))
        except pytest.skip.Exception as missing:
            print(f"skipped, {missing}", flush=True)
            continue
        except Exception:
            # The other benchmarks still run and store their results.
            traceback.print_exc()
            failed.append(name)
            continue
        keep(name, result, RESULTS if chosen.keep else OWN)
        print("\n" + result.markdown(name) + "\n", flush=True)
    then = "write the page with: make docs" if chosen.keep else f"results are in {OWN}"
    print(f"{(time.monotonic() - started) / 60:.1f} min; {then}", file=sys.stderr)
    if failed:
        sys.exit(f"failed, no results stored: {', '.join(failed)}")


if __name__ == "__main__":
    main()

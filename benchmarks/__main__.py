"""Run benchmarks: ``python -m benchmarks [NAME,NAME]``; with ``--keep`` (``make bench``) for the page of this project.

Each benchmark is a module with one function, ``bench(smoke)``; ``smoke`` makes it as small as possible, which
only shows that it works.
"""

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from typing import Any

import pytest

from commonwatt.runtime.service import keep_freed_memory
from harness.docs.measured import BENCHMARKS, OWN, RESULTS, Section, keep, measure


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
    started, failed = time.monotonic(), list[str]()
    for place, name in enumerate(names, 1):
        left = sum(BENCHMARKS[each] for each in names[place - 1 :])
        print(f"{place}/{len(names)} {name}, about {BENCHMARKS[name]:g} min ({left:g} min left)", flush=True)
        try:
            # In a process of its own, without the memory of the one before; it keeps what it frees, as the services do.
            with ProcessPoolExecutor(1, get_context("spawn"), initializer=keep_freed_memory) as process:
                result = process.submit(measure, benchmark(name)).result()
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

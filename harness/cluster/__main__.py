"""Measure each fault of docs/cluster.md: ``python -m harness.cluster [TIMES] [WORDS OF A FAULT]``, as root."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from harness.cluster.faults import FAULTS, Fault, Where
from harness.cluster.machines import DatabaseMachines
from harness.cluster.writer import Seen, look, prepare


def measure(machines: DatabaseMachines, name: str, where: Where, fault: Fault) -> Seen:
    """Do a fault and its end to settled machines under writes; return what was seen."""
    machines.settle()
    names = where(machines)

    def each(do: Callable[[DatabaseMachines, str], None]) -> None:
        for each in names:
            do(machines, each)

    return look(machines, name, lambda: each(fault.do), lambda: each(fault.mend), fault.lasts_s)


def main() -> None:
    """Print a line for each fault, as often as asked."""
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    words = " ".join(sys.argv[2:])
    with tempfile.TemporaryDirectory() as folder, DatabaseMachines(Path(folder)) as machines:
        machines.set_up()
        prepare(machines)
        for turn in range(times):
            for name, (where, fault) in FAULTS.items():
                if words in name:
                    seen = measure(machines, f"{name} {turn}", where, fault)
                    print(f"{name}: {seen.gap_s:.1f} s, lost {seen.lost}", flush=True)
                    print(f"    {dict(seen.errors)}", flush=True)


if __name__ == "__main__":
    main()

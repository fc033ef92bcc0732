"""The memory and the processor time of one's own street: ``commonwatt street`` with ten homes whose batteries share."""

import tempfile
from pathlib import Path
from threading import Event

from harness.docs.measured import Goal, Section, Table, number
from harness.real.own_street import all_give, memory_kb, processor_s, set_up

SETTLE_S, MEASURED_S = 60.0, 300.0


def bench(*, smoke: bool = False) -> Section:
    """Set up a street as its pages do, wait until its batteries share, and measure its processes."""
    pause, measured_s = Event(), 1.0 if smoke else MEASURED_S
    with tempfile.TemporaryDirectory() as name, set_up(Path(name)) as street:
        if not smoke:
            all_give(street)
            pause.wait(SETTLE_S)
        before = processor_s(street)
        pause.wait(measured_s)
        used = processor_s(street) - before
        found = {part: kb / 1000 for part, kb in memory_kb(street).items()}
    percent = 100 * used / measured_s
    return Section(
        title="One's own street",
        about=(
            "`commonwatt street` with ten homes and their 20 devices of ten makers on a Mosquitto that is not counted, "
            f"while batteries share: every process of the street, {SETTLE_S:.0f} s after the first battery gave; "
            f"processor time over {MEASURED_S:.0f} s. Memory: page frames, shared ones in parts (PSS)."
        ),
        tables=(
            Table(
                title="Memory",
                columns=("process", "MB"),
                rows=tuple((part, number(mb)) for part, mb in found.items()),
            ),
        ),
        goals=(
            Goal(
                what="memory of the street",
                value=round(found["all"]),
                unit="MB",
                at_most=330,
                limited_by="The modules of six processes.",
            ),
            Goal(
                what="processor time of the street",
                value=round(percent, 2),
                unit="% of a core",
                at_most=4,
                limited_by="The programs' own looks, each second.",
            ),
        ),
    )

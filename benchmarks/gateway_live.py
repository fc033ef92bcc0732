"""The cost of a real gateway's live load."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from benchmarks.processes import MIB, Costs, memory_bytes
from harness.docs.measured import Goal, Section, Table
from harness.real.site import Site

APARTMENTS = '[[microgrid]]\nid = "r001"\nkind = "apartment"\nbuildings = 3\napartments = 100\n'
HOMES = '[[microgrid]]\nid = "r002"\nkind = "residential"\n'
FEW = '[[microgrid]]\nid = "r001"\nkind = "apartment"\nbuildings = 1\napartments = 2\n'
KINDS = {"r001": "303 apartment meters", "r002": "20 residential meters"}

HOUR_S = 60.0
HOUR_SPEED = 60.0
LIVE_S = 90.0
SETTLE_S = 30.0  # real seconds until all meters are connected and the gateway has requested their state


@dataclass(frozen=True, kw_only=True)
class Live:
    """A microgrid after an hour."""

    memory: dict[str, int]  # bytes, by part
    records: int  # records that its gateway has stored


def start(site: Site) -> list[str]:
    """Start all parts of a town; return the names of its gateways and brokers."""
    names = [part.name for part in site.layout.processes]
    site.start(*names)
    return [name for name in names if name.endswith((" gateway", " broker"))]


def after_an_hour(site: Site, seconds: float) -> dict[str, Live]:
    """Let a town run; return the memory and the stored records of its microgrids."""
    names = start(site)
    Event().wait(seconds)
    memory = {name: memory_bytes(site.processes[name].pid) for name in names}
    return {
        microgrid: Live(
            memory={part: memory[f"{microgrid} {part}"] for part in ("gateway", "broker")},
            records=sum((site.status(f"{microgrid} gateway") or {})["records"].values()),
        )
        for microgrid in site.layout.town.microgrids
    }


def cores(site: Site, settle_s: float, seconds: float) -> dict[str, float]:
    """Let a town settle, then run; return the busy cores of each gateway and broker."""
    names, pause = start(site), Event()
    pause.wait(settle_s)
    costs = Costs({name: site.processes[name].pid for name in names})
    pause.wait(seconds)
    return costs.cores()


def bench(*, smoke: bool = False) -> Section:
    """Measure both."""
    town = FEW if smoke else APARTMENTS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        homes = "" if smoke else HOMES
        with Site(folder / "hour", town + homes, speed=HOUR_SPEED) as site:
            found = after_an_hour(site, 1.0 if smoke else HOUR_S)
        busy: dict[str, float] = {}
        if not smoke:
            with Site(folder / "live", town + homes, speed=1) as site:
                busy = cores(site, SETTLE_S, LIVE_S)
    return Section(
        title="A gateway at work",
        about=(
            "An apartment microgrid and a residential one, each with real meters, its broker (amqtt) and its gateway, "
            "relay to a real utility. Memory after an hour is measured at sixty times the speed, in one minute; "
            f"processor time at normal speed, for {LIVE_S:.0f} s after {SETTLE_S:.0f} s to settle."
        ),
        tables=(_lives(found, busy),),
        goals=() if smoke else tuple(_goals(found, busy)),
    )


def _lives(found: dict[str, Live], busy: dict[str, float]) -> Table:
    return Table(
        title="The live load",
        columns=(
            "microgrid",
            "records in the hour",
            "memory after it, gateway",
            "broker",
            "of a core, gateway",
            "broker",
        ),
        rows=tuple(
            (
                KINDS[microgrid],
                f"{each.records:,}",
                *(f"{each.memory[part] / MIB:.0f} MiB" for part in ("gateway", "broker")),
                *(f"{100 * busy.get(f'{microgrid} {part}', 0.0):.1f} %" for part in ("gateway", "broker")),
            )
            for microgrid, each in found.items()
        ),
    )


def _goals(found: dict[str, Live], busy: dict[str, float]) -> Iterator[Goal]:
    for microgrid, most_mb in (("r001", 100), ("r002", 80)):
        yield Goal(
            what=f"memory of the gateway of {KINDS[microgrid]} after an hour",
            value=found[microgrid].memory["gateway"] / 1e6,
            unit="MB",
            at_most=most_mb,
            limited_by="Python and its libraries take most of it before the first meter connects.",
        )
    yield Goal(
        what=f"processor time of the gateway of {KINDS['r001']}",
        value=100 * busy["r001 gateway"],
        unit="% of a core",
        at_most=10,
        limited_by="Each message passes the MQTT client and needs a commit.",
    )

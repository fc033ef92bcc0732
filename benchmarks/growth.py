"""The load of 1, 4 and 16 microgrids, each sending as fast as it is acknowledged, at one utility."""

import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.backlog import AS_GATEWAYS_SEND
from benchmarks.processes import MIB, Costs
from benchmarks.town import MINUTE_SLOTS, RESIDENTIAL, Controller, Uplinks, controllers, use_server
from commonwatt.model.units import QUARTER_S, SLOTS
from gateway.relay.turns import WINDOW
from harness.docs.measured import Section, Table, number
from harness.real.postgres import Postgres
from harness.real.site import Site

MICROGRIDS = (1, 4, 16)
BATCHES = 2400  # batches of all microgrids together, in each run

MINUTES, BACKLOG = "a minute each", "a backlog"

Made = tuple[int, bytes]  # a batch and its number

HELD_BACK = (
    "One microgrid on amqtt is throttled: our broker reads 100 packets a second of a gateway (`packets_per_s`), with "
    "a burst of ten seconds' worth. The backlog of twelve hours needs less."
)


@dataclass(frozen=True, kw_only=True)
class Run:
    """The result of one run."""

    readings: int  # number of readings
    seconds: float  # time until all were acknowledged
    cpu_s: dict[str, float]  # processor time, by process
    memory: dict[str, int]  # memory at the end, bytes, by process


def minutes(gateway: Controller) -> Iterator[Made]:
    """Yield batches of a minute each, back from now."""
    now = int(time.time()) // 60
    for back in range(1, 1 << 20):
        yield gateway.sequence + 1, gateway.minute(now - back)


def backlog(gateway: Controller) -> Iterator[Made]:
    """Yield batches of whole quarters, back from now, as large as a gateway's backlog makes them."""
    end, rng = int(time.time()) // QUARTER_S, np.random.default_rng(int(gateway.meter[0]))
    for batch in gateway.backlog(range(end - 96 * 365, end), AS_GATEWAYS_SEND, rng):
        yield gateway.sequence, batch


async def pour(port: int, gateways: Sequence[Controller], batches: dict[str, list[Made]]) -> float:
    """Let every gateway send its batches, ``WINDOW`` at a time; return the duration, seconds."""
    uplinks = Uplinks()
    await uplinks.connect(port, gateways)
    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for gateway in gateways:
            group.create_task(_pour_one(uplinks, gateway, batches[gateway.id]))
    seconds = time.monotonic() - started
    uplinks.close()
    assert not uplinks.refused, f"{uplinks.refused} batches were refused"
    return seconds


async def _pour_one(uplinks: Uplinks, gateway: Controller, batches: list[Made]) -> None:
    for sequence, batch in batches:
        await uplinks.at_most(WINDOW - 1, of=gateway)
        uplinks.send(gateway, batch, sequence)
    await uplinks.at_most(0, of=gateway)


def grow(folder: Path, server: Postgres | None, microgrids: int, batches: int) -> dict[str, Run]:
    """Return the results for a number of microgrids, by kind of batch."""
    with Site(folder, RESIDENTIAL.format(microgrids), speed=1) as site:
        use_server(site, server, compact_s=86_400)
        if server is not None:
            site.put_mosquitto("head-end")
        site.start("head-end", "utility")
        gateways = controllers(site)
        pids = {name: process.pid for name, process in site.processes.items()}
        pids |= {} if server is None else {"PostgreSQL": server.pid}
        found = {}
        for kind, make, slots in ((MINUTES, minutes, MINUTE_SLOTS), (BACKLOG, backlog, SLOTS)):
            blocks = len(gateways[0].meter) if kind == MINUTES else AS_GATEWAYS_SEND
            made = {one.id: list(islice(make(one), batches // microgrids)) for one in gateways}
            costs = Costs(pids)
            seconds = asyncio.run(pour(site.address("head-end")[1], gateways, made))
            found[kind] = Run(
                readings=batches // microgrids * microgrids * blocks * slots,
                seconds=seconds,
                cpu_s=costs.cpu_s(),
                memory=costs.memory_bytes(),
            )
    return found


def bench(*, smoke: bool = False) -> Section:
    """Measure with the embedded parts, and with the parts of production."""
    runs: dict[tuple[str, int], dict[str, Run]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        kinds: dict[str, Postgres | None] = {"amqtt, SQLite": None}
        if not smoke:
            kinds["Mosquitto, PostgreSQL"] = stack.enter_context(Postgres(folder))
        for parts, server in kinds.items():
            for microgrids in (2,) if smoke else MICROGRIDS:
                place = folder / f"site-{len(runs)}"
                runs[parts, microgrids] = grow(place, server, microgrids, 20 if smoke else BATCHES)
                print(f"  {parts}, {microgrids} microgrids", flush=True)
    return Section(
        title="1, 4 and 16 microgrids at one utility",
        about=(
            f"Simulated gateways send {BATCHES:,} batches of 22 meters in total, through a real head-end to a real "
            f"utility, each gateway {WINDOW} at a time, as fast as they are acknowledged: batches of a minute, and "
            f"batches of a backlog, with {AS_GATEWAYS_SEND} whole quarter-hours each. Nothing is compacted meanwhile. "
            "Memory is measured after the run; the batches of a backlog follow the others, in the same processes."
        ),
        tables=tuple(_table(kind, {key: each[kind] for key, each in runs.items()}) for kind in (MINUTES, BACKLOG)),
        notes=(HELD_BACK,),
    )


def _table(kind: str, runs: dict[tuple[str, int], Run]) -> Table:
    rows = []
    for (parts, microgrids), run in runs.items():
        per_million = {name: f"{1e6 * taken / run.readings:.2f} s" for name, taken in run.cpu_s.items()}
        rows.append(
            (
                parts,
                str(microgrids),
                number(run.readings / run.seconds),
                per_million["head-end"],
                per_million["utility"],
                per_million.get("PostgreSQL", ""),
                *(f"{run.memory[name] / MIB:.0f} MiB" for name in ("head-end", "utility")),
            )
        )
    return Table(
        title=f"Batches of {kind}; processor time is that of a million readings",
        columns=(
            "parts",
            "microgrids",
            "readings/s",
            "head-end",
            "utility",
            "PostgreSQL",
            "memory, head-end",
            "utility",
        ),
        rows=tuple(rows),
    )

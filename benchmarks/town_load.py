"""The whole town's load on one machine: ``python -m benchmarks.town_load --minutes 1`` for a shorter look."""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from benchmarks.processes import MIB, Costs
from benchmarks.town import RESIDENTIAL, WHOLE_TOWN, Controller, Uplinks, controllers, use_server
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.topics import STATUS
from harness.docs.measured import Goal, Section, Table, measure, number, percentile
from harness.real.postgres import Postgres
from harness.real.site import Site

MINUTES = 10.0
PERIOD_S = 60.0  # period of a gateway's batch and heartbeat, seconds; otherwise the gateway sends nothing
HELLO_AT_S = (20.0, 40.0)  # seconds after its batch at which a gateway that received nothing sends an empty batch

HEARTBEAT_AT_S = 30.0
QUARTER_MIN = 15
COMPACT_S = 300
"""Period of compaction, seconds, so that it runs within the ten minutes; the default is 900 s, with the same parts to
join in the end."""

IN_FLIGHT = 64  # batches in flight at once before the load begins


@dataclass(frozen=True, kw_only=True)
class Minute:
    """The result of one minute."""

    offered: int  # batches sent, without empty ones
    waiting: int  # unacknowledged batches at its end
    cores: dict[str, float]  # busy cores, by process


class Load:
    """The schedule of the town's gateways, each at its own time of the minute."""

    def __init__(self, gateways: Sequence[Controller], uplinks: Uplinks, costs: Costs) -> None:
        self._uplinks = uplinks
        self._costs = costs
        phases = [(gateway, n * PERIOD_S / len(gateways)) for n, gateway in enumerate(gateways)]
        offsets = {0.0: "batch", HEARTBEAT_AT_S: "heartbeat", **dict.fromkeys(HELLO_AT_S, "hello")}
        self._turn = sorted(
            ((phase + at) % PERIOD_S, gateway.id, kind, gateway)
            for gateway, phase in phases
            for at, kind in offsets.items()
        )

    async def preload(self, minutes: Sequence[int], gateways: Sequence[Controller]) -> None:
        """Send the batches of some minutes at once, as input of the compaction."""
        for minute in minutes:
            for gateway in gateways:
                self._uplinks.send(gateway, gateway.minute(minute))
                await self._uplinks.at_most(IN_FLIGHT)
        await self._uplinks.at_most(0)
        self._uplinks.latencies_s.clear()

    async def minute(self, seconds: float) -> Minute:
        """Send the messages of the first ``seconds`` of a minute, each at its time."""
        started, before, offered = time.monotonic(), self._costs.cpu_s(), 0
        for due_s, _, kind, gateway in self._turn:
            if due_s >= seconds:
                break
            await asyncio.sleep(max(0.0, started + due_s - time.monotonic()))
            self._send(kind, gateway)
            offered += kind == "batch"
        await asyncio.sleep(max(0.0, started + seconds - time.monotonic()))
        elapsed_s = time.monotonic() - started
        return Minute(
            offered=offered,
            waiting=self._uplinks.waiting(),
            cores={name: (taken - before[name]) / elapsed_s for name, taken in self._costs.cpu_s().items()},
        )

    def _send(self, kind: str, gateway: Controller) -> None:
        now = int(time.time())
        if kind == "heartbeat":
            heartbeat = Heartbeat(
                time=now, store=1, backlog_parts=0, backlog_events=0, backlog_letters=0, aggregation="none", trust=3
            )
            self._uplinks.say(gateway, STATUS, heartbeat.pack())
        elif kind == "hello":
            self._uplinks.send(gateway, gateway.empty())
        else:
            self._uplinks.send(gateway, gateway.minute(now // 60 - 1))


async def load(
    site: Site, pids: dict[str, int], minutes: float, preloaded: int
) -> tuple[list[Minute], Uplinks, dict[str, int]]:
    """Return the result of each minute, the connections, and the memory of each process at the end."""
    gateways, uplinks = controllers(site), Uplinks()
    await uplinks.connect(site.address("head-end")[1], gateways)
    costs = Costs(pids)
    town = Load(gateways, uplinks, costs)
    quarter = int(time.time()) // 900
    await town.preload(range(quarter * QUARTER_MIN - preloaded, quarter * QUARTER_MIN), gateways)
    found: list[Minute] = []
    ends = time.monotonic() + minutes * PERIOD_S
    for n in count(1):
        found.append(await town.minute(min(PERIOD_S, ends - time.monotonic())))
        print(f"  minute {n}: {found[-1].waiting} batches wait", flush=True)
        if ends - time.monotonic() < 1:
            break
    await uplinks.at_most(0)
    memory = costs.memory_bytes()
    uplinks.close()
    return found, uplinks, memory


def bench(*, smoke: bool = False, minutes: float = MINUTES) -> Section:
    """Put the town's load on a real head-end and a real utility."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = None if smoke else stack.enter_context(Postgres(folder))
        site = stack.enter_context(Site(folder / "site", RESIDENTIAL.format(3) if smoke else WHOLE_TOWN, speed=1))
        site.put_mosquitto("head-end")
        use_server(site, server, COMPACT_S)
        site.start("head-end", "utility")
        pids = {name: process.pid for name, process in site.processes.items()}
        pids |= ({} if server is None else {"PostgreSQL": server.pid}) | {"generator": os.getpid()}
        found, uplinks, memory = asyncio.run(load(site, pids, 0.02 if smoke else minutes, 1 if smoke else QUARTER_MIN))
        compacted = site.metric("utility", "commonwatt_utility_compacted_blocks_total")
        series = sum(len(one.meter) for one in controllers(site))
    return _section(found, uplinks, memory, series, compacted)


def _section(
    found: Sequence[Minute], uplinks: Uplinks, memory: dict[str, int], series: int, compacted: float
) -> Section:
    cores = {name: sum(each.cores[name] for each in found) / len(found) for name in memory}
    return Section(
        title="The whole town's load on one machine",
        about=(
            f"802 simulated gateways, each with its own connection, relay {series:,} series once a minute, with four "
            "readings of each at 1 mWh: the series of the town's 16,307 meters and of the two meters at each "
            "boundary. Like real gateways, each also sends one heartbeat and two empty batches a minute, at its own "
            "time of the minute. The head-end (Mosquitto), the utility, PostgreSQL as installed, and the generator "
            "share the machine. Before the first minute, a whole quarter-hour is sent, so that there is one to "
            "compact."
        ),
        tables=(_processes(cores, memory, uplinks.latencies_s or [float("inf")]),),
        goals=_goals(cores, found[-1]),
        notes=(f"{number(compacted)} blocks were compacted; {uplinks.refused} batches were refused.",),
    )


def _processes(cores: dict[str, float], memory: dict[str, int], latencies_s: Sequence[float]) -> Table:
    return Table(
        title=(
            f"All of it; batches were acknowledged after {1000 * percentile(latencies_s, 50):.0f} ms in the "
            f"median, 99 % of them within {1000 * percentile(latencies_s, 99):.0f} ms"
        ),
        columns=("process", "of one core", "of the machine", "memory in the end"),
        rows=tuple(
            (name, f"{100 * busy:.1f} %", f"{_of_machine(busy):.1f} %", f"{memory[name] / MIB:.0f} MiB")
            for name, busy in cores.items()
        ),
    )


def _goals(cores: dict[str, float], last: Minute) -> tuple[Goal, Goal]:
    return (
        Goal(
            what="utility and head-end, of the machine",
            value=_of_machine(cores["utility"] + cores["head-end"]),
            unit="%",
            at_most=50,
            limited_by="The utility's writing thread takes most of it.",
        ),
        Goal(
            what="batches that waited at the end of the last minute",
            value=last.waiting,
            unit=f"of {last.offered} sent in it",
            at_most=max(1, last.offered // 100),
            limited_by="The backlog grew.",
        ),
    )


def _of_machine(cores: float) -> float:
    """Return ``cores`` busy cores as a share of the machine, percent."""
    return 100 * cores / (os.cpu_count() or 1)


def main() -> None:
    """Measure for some minutes and print the result; store nothing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=MINUTES)
    arguments = parser.parse_args()
    print(measure(lambda: bench(minutes=arguments.minutes)).markdown("town_load"))


if __name__ == "__main__":
    main()

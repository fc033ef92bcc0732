"""A limit of the utility, from its command to what passes the boundaries of a town of emulated microgrids."""

import asyncio
from pathlib import Path

from commonwatt.device.store import reading_store
from commonwatt.model.effects import Publish
from commonwatt.town.registry import registry_of
from commonwatt.town.town import Direction, Function
from harness.surroundings.fleet import FleetBench, T
from harness.surroundings.gateway import World
from harness.truth import true_energy
from meter_sim.fleet import Fleet

LIMITED = "r001"


class Limited:
    """A fleet, and a gateway on a wire without loss for one of its microgrids."""

    def __init__(self, path: Path, bench: FleetBench, fleet: Fleet) -> None:
        self.bench, self.fleet = bench, fleet
        self.gateway = World(path / "gateway.db")
        self.gateway.now = int(bench.clock.time)
        self.gateway.meters = {meter.id: meter for meter in registry_of(bench.town.microgrids[LIMITED]).meters}
        self.gateway.new_core()
        self._read = 0

    def pass_slots(self, count: int) -> None:
        for _ in range(count):
            self.bench.slots(self.fleet, 1)
            self.gateway.now = int(self.bench.clock.time)
            self.gateway.tick("retry")
            self.deliver()

    def deliver(self) -> None:
        """Deliver the gateway's commands to the meters, and their answers."""
        member = self.fleet.members[LIMITED]
        while new := self.gateway.sent[self._read :]:
            self._read = len(self.gateway.sent)
            for message in new:
                _, _, meter, *leaf = message.topic.split("/")
                if leaf != ["d", "cmd"]:
                    continue
                effects = member.meters[int(meter)].receive("cmd", message.payload, self.bench.clock.time)
                asyncio.run(member._shell.perform([e for e in effects if not isinstance(e, Publish)]))
                for answer in [e for e in effects if isinstance(e, Publish) and e.topic.endswith("/u/out")]:
                    self.gateway.meter_says(int(meter), "out", answer.payload)


def through(bench: FleetBench, name: str, direction: Direction) -> list[int]:
    """What passed a microgrid's boundary, slot by slot."""
    meters = bench.town.microgrids[name].meters
    (found,) = [m.id for m in meters if (m.function, m.direction) == (Function.BOUNDARY, direction)]
    return [value for _, meter, _, value in sorted(bench.records(name)) if meter == found]


def with_levels(bench: FleetBench, fleet: Fleet, percent: int) -> None:
    batteries = {meter.id: meter.battery for meter in bench.town.meters if meter.battery is not None}
    fleet._world.levels = {
        name: {meter: batteries[meter].capacity * percent // 100 for meter in levels}
        for name, levels in fleet._world.levels.items()
    }


def test_houses_with_a_limit_of_nothing_import_nothing_and_the_limit_ends_without_the_utility(tmp_path: Path) -> None:
    # req: A2, A8, C1
    bench = FleetBench(tmp_path)
    with bench.fleet() as fleet:
        with_levels(bench, fleet, 0)
        world = Limited(tmp_path, bench, fleet)
        world.pass_slots(2)
        world.gateway.ask(cmd="supply", supply="CRITICAL", import_limit_w=0, for_s=120)
        world.deliver()
        world.pass_slots(12)
        world.gateway.store.close()
    imports = {name: through(bench, name, Direction.INCOMING) for name in ("r001", "r002", "pub")}
    assert all(imports["r001"][:2]), "the batteries are empty, and it is night"
    assert imports["r001"][2:10] == [0] * 8
    assert all(imports["r001"][11:]), "the utility has said nothing more"
    assert all(imports["r002"]), "another microgrid has its own controller"
    assert all(imports["pub"])
    with reading_store(tmp_path / "r001.db") as store:
        short = [dict(energy).get("short", {}) for _, energy in true_energy(store)]
    assert all(set(one) <= {"LIMIT", "PLACE"} and one for one in short[2:10])
    assert short[0] == {}


def test_houses_with_a_limit_of_nothing_go_on_exporting(tmp_path: Path) -> None:
    bench = FleetBench(tmp_path)
    bench.clock.time = T + 14 * 3600 + 2.0  # noon
    with bench.fleet() as fleet:
        with_levels(bench, fleet, 100)
        world = Limited(tmp_path, bench, fleet)
        world.gateway.ask(cmd="supply", supply="CRITICAL", import_limit_w=0, for_s=600)
        world.deliver()
        world.pass_slots(6)
        world.gateway.store.close()
    assert all(through(bench, "r001", Direction.OUTGOING))
    assert through(bench, "r001", Direction.INCOMING) == [0] * 6

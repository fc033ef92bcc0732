"""A seeded world: two microgrids of three meters each, a utility, their brokers; one thread, a virtual clock."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

from commonwatt.config.settings import GatewaySettings
from commonwatt.model.units import MeterId
from commonwatt.model.validation import EARLY_S, FUTURE_S
from commonwatt.town.loading import load_town
from commonwatt.town.registry import RegisteredMeter, registry_of
from commonwatt.town.town import Microgrid, Town
from harness.world import ending
from harness.world.faults import Faults, Rival
from harness.world.fleet import Fleet
from harness.world.gateway import GatewayNode, Holder
from harness.world.ledger import Ledger
from harness.world.masks import Key
from harness.world.network import Broker, Link
from harness.world.node import Node
from harness.world.stage import Stage
from harness.world.story import INVARIANTS, Violation
from harness.world.utility import UtilityNode

START = 1_782_000_000  # start of every world: the start of a quarter
HEALED_S = 600  # seconds without faults at the end of measuring

DRAIN_S = EARLY_S - FUTURE_S - HEALED_S + 1800
"""Seconds after the last reading until all data is at the utility (I6): the longest wait of a put that is refused as
early when all is healed (docs/protocol.md), then finished quarters and repeated requests."""

BOUNDS_EVERY_S = 300  # seconds between two counts of the stores' rows (I10)
# The meters, by microgrid: a battery that sends on request, one that sends by itself, and a plain meter.
MEASURED = {"r001": (10001, 10003, 10004), "r002": (20001, 20003, 20004)}
TOWN = 'microgrid = [{id = "r", kind = "residential", count = 2, houses = 2}]'  # the town


@dataclass(frozen=True, kw_only=True)
class Options:
    """A world's options besides its seed."""

    hours: float = 2.0  # duration of measuring
    bug: str = ""  # a planted bug's name; empty: none
    kind: str = "readings"  # what it is about: ``harness.world.campaign.KINDS``
    only: tuple[str, ...] | None = None  # the faults that happen, by name; ``None``: all of the seed

    def command(self, seed: int) -> str:
        """Return the command that replays a world."""
        hours = f" --hours {self.hours:g}" if self.hours != Options.hours else ""
        bug = f" --bug {shlex.quote(self.bug)}" if self.bug else ""
        kind = f" --kind {self.kind}" if self.kind != Options.kind else ""
        only = "" if self.only is None else f" --only {shlex.quote(','.join(self.only))}"
        return f"python -m harness.world --seed {seed}{kind}{hours}{bug}{only}"


@dataclass(frozen=True)
class Run:
    """The result of a world."""

    seed: int  # its seed
    digest: str  # the hash of its event log
    counts: dict[str, int]  # number of events by kind
    readings: int  # readings made, one a slot and type
    messages: int  # messages sent
    drained_s: float  # seconds from the last reading until all was at the utility
    struck: tuple[str, ...]  # the names of the faults that happened


class World(Stage):
    """One world."""

    start = START
    healed_s = HEALED_S
    town_file = TOWN
    measured: Mapping[str, tuple[MeterId, ...]] = MEASURED

    def __init__(self, seed: int, options: Options, unsynced: Sequence[str] = ()) -> None:
        """Make the world of a seed; ``unsynced`` are nodes whose commits a crash undoes."""
        super().__init__(seed)
        self.ledger = Ledger(self)
        self.measure_until = self.start + int(options.hours * 3600)
        self._options = options
        self.gateways: dict[str, GatewayNode] = {}
        self.fleets: dict[str, Fleet] = {}
        self.rivals: dict[str, Rival] = {}
        self.town = town_of(self.town_file)  # the town
        self.head_end = Broker(self, "head-end")
        self.brokers = {name: Broker(self, f"{name}-b") for name in self.measured}
        self.utility = self.make_utility()
        log_records = self.rng.choice((300, 2_000_000))
        periods = {"relay_s": (60, 120, 300), "collect_s": (60, 300), "levels_s": (60, 300), "put_s": (60, 900)}
        settings = {name: self.rng.choice(choices) for name, choices in periods.items()}
        for name, ids in self.measured.items():
            microgrid = self.town.microgrids[name]
            registered = {m.id: m for m in registry_of(microgrid).meters if m.id in ids}
            gateway = GatewaySettings(microgrid=name, **settings)
            self.gateways[name] = self.make_gateway(gateway, registered)
            self.rivals[name] = self.make_rival(gateway, registered)
            self.fleets[name] = self.make_fleet(microgrid, ids, log_records)
        self.nodes: list[Node[Any]] = [self.utility, *self.gateways.values(), *self.fleets.values()]
        for node in self.nodes:
            node.disk.syncs = node.name not in unsynced
        self._links = {(f.microgrid, int(link.device.identity)): link for f in self.fleets.values() for link in f.links}
        self._faults = self.make_faults()

    # What a kind of world is made of.

    def make_utility(self) -> UtilityNode:
        """Return the utility."""
        return UtilityNode(self, self.town, self.head_end)

    def make_gateway(self, settings: GatewaySettings, meters: dict[MeterId, RegisteredMeter]) -> GatewayNode:
        """Return the gateway of a microgrid."""
        return GatewayNode(self, settings, meters, self.brokers[settings.microgrid], self.head_end)

    def make_rival(self, settings: GatewaySettings, meters: dict[MeterId, RegisteredMeter]) -> Rival:
        """Return the second manager of a microgrid."""
        return Rival(self, settings, meters, self.brokers[settings.microgrid])

    def make_fleet(self, microgrid: Microgrid, ids: Sequence[MeterId], log_records: int) -> Fleet:
        """Return the meters of a microgrid."""
        described = [meter for meter in microgrid.meters if meter.id in ids]
        return Fleet(self, microgrid.id, described, self.brokers[microgrid.id], log_records)

    def holders(self, microgrid: str) -> Sequence[Holder]:
        """Return what stores the records of a microgrid."""
        return [self.gateways[microgrid]]

    def all_holders(self) -> list[Holder]:
        """Return what stores records of any microgrid."""
        return [holder for microgrid in self.gateways for holder in self.holders(microgrid)]

    def make_faults(self) -> Faults:
        """Return the faults."""
        return Faults(self)

    # What happens.

    def fail(self, what: str, key: Key | None = None, slots: int = 0) -> NoReturn:
        """End the world: an invariant is violated for some slots of a block.

        Raises:
            Violation: Always.
        """
        assert INVARIANTS.keys() >= {*what.partition(":")[0].split("/")}, what
        story = self.story.text(() if key is None else (str(key[0]),))
        if key is not None:
            story += "\n\n" + "\n".join(ending.of_slots(self, key, slots))
        raise Violation(self.seed, what, story, self._options.command(self.seed), tuple(self._faults.struck))

    def link_of(self, microgrid: str, meter: MeterId) -> Link:
        """Return a meter's link."""
        return self._links[microgrid, meter]

    def run(self) -> Run:
        """Run through faults, heal, drain, and check the end.

        Raises:
            Violation: Something that must always hold did not.
        """
        for node in self.nodes:
            node.boot()
        self._check_bounds()
        until = self.measure_until - self.healed_s
        self._faults.begin(until - self.start, self._options.only)
        self.run_until(until)
        self._faults.heal()
        self.run_until(self.measure_until)
        self.check_healed()
        self.tell("world", "the last slot is measured")
        self.run_until(self.measure_until + DRAIN_S, self.drained)
        drained_s = self.time - self.measure_until
        self.check()
        self.close()
        made = sum(len(readings) for readings in self.ledger.made.values())
        return Run(
            self.seed,
            self.story.digest,
            dict(self.story.counts),
            made,
            self.sent,
            drained_s,
            tuple(self._faults.struck),
        )

    def check(self) -> None:
        """Check the end."""
        ending.check(self)

    def check_healed(self) -> None:
        """Check what holds some time after the last fault."""

    def _check_bounds(self) -> None:
        ending.check_stores(self)
        self.after(BOUNDS_EVERY_S, self._check_bounds)

    def drained(self) -> bool:
        """Return whether nothing is left to relay (I6)."""
        return all(f.drained() for f in self.fleets.values()) and all(g.drained() for g in self.gateways.values())

    def close(self) -> None:
        """Close the stores."""
        for node in self.nodes:
            node.close()
        self._folder.cleanup()


@cache
def town_of(text: str) -> Town:
    """Return the town of a town file's text."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "town.toml"
        path.write_text(f"{text}\n")
        return load_town(path)

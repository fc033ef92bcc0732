"""The time from a feeder's death to the island, at real speed, with real processes."""

import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from commonwatt.config.files import load_settings
from commonwatt.config.meters import MetersSettings
from commonwatt.config.settings import GatewaySettings
from commonwatt.device.store import reading_store
from commonwatt.model.units import SLOT_S
from commonwatt.protocol.commands import Kind
from commonwatt.town.town import Function
from harness.docs.measured import Goal, Section, Table, percentile
from harness.real import forks
from harness.real.site import Site
from meter_sim.faults import Faults, path_of, save

TOWN = '[[microgrid]]\nid = "r"\nkind = "residential"\nhouses = 10\ncount = {}\n'
MICROGRIDS, ROUNDS = 4, 13
LOOK_S = 0.05  # seconds between two looks at the meters' store: an island is seen at most so much late

PATIENCE_S = 120
LAST_S = 7 * 60  # no round begins later


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The time until the boundary's meters hold the command to isolate, seconds."""

    from_death_s: float  # from the feeder's death
    from_event_s: float  # from the end of the slot in which it died, when the boundary sensor sees it


class Island:
    """One microgrid, whose feeder dies again and again."""

    def __init__(self, site: Site, name: str) -> None:
        self.samples: list[Sample] = []  # the measured times
        self.died: float | None = None
        self._site = site
        self._gateway, self._meters = f"{name} gateway", f"{name} meters"
        microgrid = site.layout.town.microgrids[name]
        self._boundary = [meter.id for meter in microgrid.meters if meter.function is Function.BOUNDARY]
        self._store = load_settings(site.layout.part(self._meters).config, "meters", MetersSettings).store
        kept = load_settings(site.layout.part(self._gateway).config, "gateway", GatewaySettings).store
        self._stores = {self._meters: self._store, self._gateway: kept}

    def phase(self) -> str | None:
        """Return the phase that the gateway shows; ``None``: none yet."""
        status = self._site.status(self._gateway)
        return None if status is None else status["modes"]["phase"]

    def die(self) -> None:
        """Cut the feeder."""
        now = self._site.layout.clock.now()
        save(path_of(self._store), Faults(feeder_dead_until=int(now) + 3600))
        self.died = now

    def look(self) -> bool:
        """Return whether the boundary's meters hold the gateway's command; measure when they do."""
        if self.died is None or not self._is_isolated():
            return False
        now = self._site.layout.clock.now()
        seen = (int(self.died) // SLOT_S + 1) * SLOT_S
        self.samples.append(Sample(from_death_s=now - self.died, from_event_s=now - seen))
        self.died = None
        return True

    def _is_isolated(self) -> bool:
        with reading_store(self._store) as store:
            loaded = [store.load(meter) for meter in self._boundary]
        held = [None if stored is None else stored.desired_states.held.get(Kind.ISOLATED) for stored in loaded]
        return all(state is not None and state.value == "on" for state in held)

    def again(self) -> None:
        """Begin with new stores, on a feeder that is alive: otherwise a voltage would have to be stable for 300 s."""
        for name in self._stores:
            self._site.kill(name)
        for name, store in self._stores.items():
            for file in store.parent.glob(f"{store.name}*"):
                file.unlink()
            part = self._site.layout.part(name)
            self._site.processes[name] = forks.start(part.command, part.log)


def _until(is_done: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not is_done():
        assert time.monotonic() < end, "the microgrids did not become what they should"
        time.sleep(LOOK_S)


def measure(site: Site, names: list[str], rounds: int) -> list[Sample]:
    """Return the samples of all microgrids; feeders die at random moments of a slot."""
    site.start("head-end", "utility", *(f"{name} {part}" for name in names for part in ("broker", "gateway", "meters")))
    islands = [Island(site, name) for name in names]
    rng = random.Random(11)  # noqa: S311 - spreads the deaths over the slot
    began = time.monotonic()
    for number in range(rounds):
        if time.monotonic() - began > LAST_S:
            break
        if number:
            for island in islands:
                island.again()
        _until(lambda: all(island.phase() == "connected" for island in islands))
        start = time.monotonic()
        waiting = [(start + rng.uniform(0, SLOT_S), island) for island in islands]
        left = set(islands)
        while left:
            assert time.monotonic() < start + PATIENCE_S, "no island"
            for at, island in [each for each in waiting if each[0] <= time.monotonic()]:
                waiting.remove((at, island))
                island.die()
            left -= {island for island in left if island.look()}
            time.sleep(LOOK_S)
    return [sample for island in islands for sample in island.samples]


def bench(*, smoke: bool = False) -> Section:
    """Measure at speed 1."""
    microgrids, rounds = (1, 1) if smoke else (MICROGRIDS, ROUNDS)
    with (
        tempfile.TemporaryDirectory() as folder,
        Site(Path(folder) / "town", TOWN.format(microgrids), speed=20 if smoke else 1) as site,
    ):
        samples = measure(site, list(site.layout.town.microgrids), rounds)
    death, event = [s.from_death_s for s in samples], [s.from_event_s for s in samples]
    return Section(
        title="From a dead feeder to the island",
        about=(
            "Microgrids of ten houses, of real brokers, gateways and emulated meters at real speed. The feeder dies at "
            "a random moment of a slot of 15 s. The emulated switch trips, and the boundary sensor sends its event, at "
            "the end of that slot. The time is measured until both boundary meters have stored the gateway's command "
            "to isolate: the sensor's event went to the gateway and was stored, and its answer came back and was "
            f"stored. A look at the meters' store every {LOOK_S:g} s adds up to so much. Then new meters and gateways "
            "replace them, and the feeder dies again."
        ),
        tables=(
            Table(
                title="Seconds until the boundary holds the command to isolate",
                columns=("from", "islands", "median", "99 %", "most"),
                rows=(_row("the feeder's death", death), _row("the sensor's event", event)),
            ),
        ),
        goals=() if smoke else _goals(death, event),
    )


def _row(words: str, samples_s: list[float]) -> tuple[str, ...]:
    figures = percentile(samples_s, 50), percentile(samples_s, 99), max(samples_s)
    return words, str(len(samples_s)), *(f"{figure:.2f}" for figure in figures)


def _goals(death: list[float], event: list[float]) -> tuple[Goal, ...]:
    why = "The machine was busy with other work."
    return (
        Goal(what="from the death, 99 %", value=percentile(death, 99), unit="s", at_most=17, limited_by=why),
        Goal(what="from the event, 99 %", value=percentile(event, 99), unit="s", at_most=2, limited_by=why),
    )

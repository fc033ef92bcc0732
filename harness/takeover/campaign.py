"""Seeded runs of the world with random faults, and what must hold in each (the invariants of docs/controllers.md).

python -m harness.takeover --seeds 1000
"""

from collections.abc import Callable

from commonwatt.model.units import ControllerId, MicrogridId
from commonwatt.protocol.commands import EPOCH_STEP, Epoch
from commonwatt.protocol.topics import UTILITY
from harness.takeover.thief import Thief
from harness.takeover.world import METERS, NAMES, World

BEGINS_S = 100.0  # seconds until the first fault
FAULTS_S = 300.0  # seconds with faults
MANAGED_WITHIN_S = 60.0  # seconds after the last change within which a microgrid that can be managed is
TOGETHER_S = 15.0  # seconds within which two managers are one again, where all lines work
HEALED_S = 200.0  # seconds after all faults
MOST_COUNTER = 5 * EPOCH_STEP  # what a thief lifts counters to within a day: at each of four places by a step
STARTS = ("its own", "its own", "old", "empty")


class Watch:
    """Looks once a second at who manages each microgrid of a world.

    Attributes:
        changed: When the last fault began or ended.
        together_s: Seconds in which two managers were each believed by more than one meter.
        unmanaged_s: Seconds in which a microgrid that could be managed was not, summed over microgrids.
    """

    def __init__(self, world: World) -> None:
        self.world, self.changed = world, world.now
        self.together_s = self.unmanaged_s = 0
        self._unmanaged: dict[MicrogridId, float] = {}
        self._alone: dict[MicrogridId, float] = {}
        self._epochs: dict[tuple[MicrogridId, int], Epoch] = {}
        world.after(1.0, self._look)

    def _look(self) -> None:
        world = self.world
        for (grid, n), meter in world.meters.items():
            if meter.guard.epoch < self._epochs.get((grid, n), (0, 0)):
                world.fail(f"I-a: meter {n} of {grid} went back to {meter.guard.epoch}")
            self._epochs[grid, n] = meter.guard.epoch
        for grid in NAMES:
            self._look_at(grid)
        world.after(1.0, self._look)

    def _look_at(self, grid: MicrogridId) -> None:
        world = self.world
        strong = [name for name in world.managers(grid) if world.believing(grid, name) > 1]
        self.together_s += len(strong) > 1
        self._alone[grid] = world.now if len(strong) < 2 or world.cut or world.blind else self._alone.get(grid, 0.0)
        if world.now - self._alone[grid] > TOGETHER_S:
            world.fail(f"I-c: {strong} manage {grid} together for {world.now - self._alone[grid]:.0f} s")
        able = [name for name in NAMES if world.means(name, grid)]
        if world.managed(grid) is not None or not able:
            self._unmanaged[grid] = world.now
            return
        self.unmanaged_s += 1
        since = max(self.changed, self._unmanaged.get(grid, 0.0))
        if world.now - since > MANAGED_WITHIN_S:
            world.fail(f"I-d: {grid} is not managed for {world.now - since:.0f} s; {', '.join(able)} could")

    def end(self) -> None:
        """Check that after all faults each microgrid has one manager, whom no meter refuses."""
        world = self.world
        for grid in NAMES:
            if world.managed(grid) is None or len(world.managers(grid)) > 1:
                world.fail(f"I-d: {grid} has the managers {world.managers(grid)} at the end")
        if (most := max(world.counters())) > MOST_COUNTER:
            world.fail(f"I-h: one member's word lifted a counter to {most}")
        if refused := sum(meter.refused for meter in world.meters.values()):
            world.fail(f"I-e: {refused} commands of a manager in force were refused")


class Campaign:
    """One run."""

    def __init__(self, seed: int) -> None:
        self.world = World(seed, loss=(0.0, 0.0, 0.01, 0.1)[seed % 4], has_utility=seed % 3 != 0, tick_s=0.25)
        self.watch = Watch(self.world)
        self._thief: Thief | None = None

    def run(self) -> list[str]:
        """Run it; return what did not hold."""
        world, chance = self.world, self.world.chance
        world.run(BEGINS_S)
        for _ in range(chance.randint(2, 8)):
            world.after(chance.random() * FAULTS_S, self._fault)
        world.run(FAULTS_S + 145)
        self._change()
        world.heal()
        world.run(HEALED_S)
        self.watch.end()
        return world.broken

    # Faults

    def _fault(self) -> None:
        chance = self.world.chance
        name = chance.choice(NAMES)
        faults: list[Callable[[ControllerId, float], None]] = [
            self._crash,
            self._pause,
            self._cut_off,
            self._cut_lines,
            self._blind,
            self._no_commits,
            self._no_utility,
            self._lie,
            self._replay,
            self._steal,
        ]
        self._change()
        chance.choice(faults)(name, chance.uniform(1.0, 140.0))

    def _change(self) -> None:
        self.watch.changed = self.world.now

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        def then() -> None:
            self._change()
            action()

        self.world.after(seconds, then)

    def _crash(self, name: ControllerId, seconds: float) -> None:
        world = self.world
        if world.machines[name].core is not None:
            world.kill(name)
            store = world.chance.choice(STARTS)
            self._after(seconds, lambda: world.start(name, store) if world.machines[name].core is None else None)

    def _pause(self, name: ControllerId, seconds: float) -> None:
        if self.world.machines[name].core is not None:
            self.world.stop(name)
            self._after(seconds, lambda: self.world.go_on(name))

    def _cut_off(self, name: ControllerId, seconds: float) -> None:
        """Cut a controller off from everybody, and from its meters or not."""
        others = [each for each in (*NAMES, UTILITY) if each != name]
        self._cut({(name, each) for each in others} | {(each, name) for each in others}, seconds, f"{name} is cut off")
        if self.world.chance.random() < 0.7:
            self._hide({(name, grid, n) for grid in NAMES for n in range(METERS)}, seconds)

    def _lie(self, _: ControllerId, seconds: float) -> None:
        """Let a meter make up an epoch."""
        chance = self.world.chance
        meter = self.world.meters[chance.choice(NAMES), chance.randrange(METERS)]
        meter.says = (chance.choice((3, 9, 5_000, 2**31)), chance.randint(1, 4))
        self.world.tell(f"meter {meter.number} of {meter.microgrid} says {meter.says}")

        def truth() -> None:
            meter.says = None

        self._after(seconds, truth)

    def _replay(self, name: ControllerId, seconds: float) -> None:
        """Record a controller's datagrams, and send what was recorded again and again."""
        world = self.world
        recorded = [each for each in world.recorded if each.source == name or each.to == name]
        until = world.now + seconds
        world.tell(f"{len(recorded)} recorded datagrams of and to {name} are sent again")

        def again() -> None:
            if world.now < until:
                for each in world.chance.choices(recorded, k=3):
                    world.replay(each)
                world.after(world.chance.random(), again)

        again()

    def _steal(self, name: ControllerId, seconds: float) -> None:
        """Give a controller's credentials to a thief, in place of its process; what it manages is not managed."""
        if self.world.machines[name].core is None or self._thief is not None:
            return  # Two thieves are two words.
        self._thief = Thief(self.world, name, self.world.now + seconds)
        for second in range(int(seconds) + 1):
            self._after(second, lambda: None)
        self._after(seconds + 1, self._change)

    def _cut_lines(self, name: ControllerId, seconds: float) -> None:
        """Cut some lines, each one way or both ways."""
        others = [each for each in (*NAMES, UTILITY) if each != name and self.world.chance.random() < 0.6]
        lines = {line for each in others for line in ((name, each), (each, name)) if self.world.chance.random() < 0.7}
        self._cut(lines, seconds, f"lines are cut: {sorted(lines)}")

    def _cut(self, lines: set[tuple[str, str]], seconds: float, words: str) -> None:
        self.world.tell(words)
        self.world.cut |= lines

        def heal() -> None:
            self.world.cut -= lines
            self.world.tell(f"healed: {words}")

        self._after(seconds, heal)

    def _blind(self, name: ControllerId, seconds: float) -> None:
        """Hide some meters of a microgrid from a controller."""
        grid = self.world.chance.choice(NAMES)
        some = self.world.chance.sample(range(METERS), self.world.chance.randint(1, METERS))
        self.world.tell(f"{name} does not reach {len(some)} meters of {grid}")
        self._hide({(name, grid, n) for n in some}, seconds)

    def _hide(self, some: set[tuple[ControllerId, MicrogridId, int]], seconds: float) -> None:
        self.world.blind |= some
        self._after(seconds, lambda: self.world.blind.difference_update(some))

    def _no_commits(self, name: ControllerId, seconds: float) -> None:
        self.world.set_commits(name, works=False)
        self._after(seconds, lambda: self.world.set_commits(name, works=True))

    def _no_utility(self, _: ControllerId, seconds: float) -> None:
        if self.world.utility is not None:
            self.world.stop_utility()
            self._after(seconds, lambda: self.world.start_utility() if self.world.utility is None else None)

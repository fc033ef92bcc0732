"""Strategies in a closed loop for hours: noisy levels are reported, a strategy decides, the emulator's physics obeys.

Every slot of every microgrid is checked by the balance and the limits of ``harness.energy.compare``.
"""

from dataclasses import dataclass, replace

import numpy as np

from commonwatt.energy.places import Places
from commonwatt.energy.splits import Array, Flags
from commonwatt.energy.step import Boundary, Inputs, step_alone
from commonwatt.energy.strategies import STRATEGIES
from commonwatt.model.units import SLOT_S
from harness.energy.compare import imbalances
from harness.strategies.reference import FULL_POWER_SLOTS, LEAST_SLOTS, PLACES, random_batteries

SLOTS_AN_HOUR = 3600 // SLOT_S

DAY_SLOTS = 24 * SLOTS_AN_HOUR  # slots in which a full battery serves its place's average load (T3)
LARGEST = 3_600_000_000  # capacity of the largest batteries here, milliwatt-hours; larger ones are for single decisions
LOADS = 16  # slots after which the loads repeat
MOST_SLOTS = 1_000  # slots within which help must end when no load draws: full power charges a battery in 480
MAX_SWITCHES = 4  # most times that sharing may start or stop at one battery in an hour of noise


@dataclass(frozen=True, kw_only=True)
class Hours:
    """What two hours of a strategy in many microgrids showed: one of noise, one of noise and loads."""

    microgrids: int  # microgrids
    helped: int  # those in which help was given
    limits: int  # slots in which a limit or a balance did not hold
    unsettled: int  # microgrids in which help had no end, or left a deficit beside a surplus that can be used
    noisy: int  # batteries that switched more than ``MAX_SWITCHES`` times in the hour of noise
    most: int  # most switches of a battery in that hour
    busy: int  # batteries that switched more often in the hour of noise and loads
    most_busy: int  # most switches of a battery in that hour

    def __add__(self, other: "Hours") -> "Hours":
        """Return both together."""
        sums = {name: value + getattr(other, name) for name, value in vars(self).items()}
        most = {"most": max(self.most, other.most), "most_busy": max(self.most_busy, other.most_busy)}
        return Hours(**sums | most)


class _Town:
    """Microgrids with physics behind the batteries."""

    def __init__(self, rng: np.random.Generator, rows: int) -> None:
        found = random_batteries(rng, rows, PLACES)
        capacity = np.minimum(found.capacity, LARGEST)
        minimum = capacity // 100 * (found.minimum * 100 // np.maximum(found.capacity, 1))
        near = minimum + (rng.normal(0, 0.02, capacity.shape) * capacity).astype(np.int64)
        anywhere = (rng.random(capacity.shape) * capacity).astype(np.int64)
        self.level: Array = np.clip(np.where(rng.random(capacity.shape) < 0.5, near, anywhere), 0, capacity)
        self.isolated: Flags = ~found.available
        self.batteries = replace(
            found,
            level=self.level,
            capacity=capacity,
            minimum=minimum,
            sharing=np.zeros_like(found.sharing),
            band_permille=20,
            islands=None,
            recent=None,
        )
        self._slots = np.zeros_like(capacity)
        self.places = Places(
            microgrids=tuple(f"r{row}" for row in range(rows)),
            kind="residential",
            names=((),) * rows,
            step_s=SLOT_S,
            capacity=capacity,
            minimum=minimum,
            weight=np.ones_like(capacity),
            full_sun=np.zeros_like(capacity),
            power=capacity // FULL_POWER_SLOTS + 1,
            service=capacity // rng.integers(40, 120, capacity.shape) + 1,
            feeder=capacity.sum(axis=1),
            users=np.ones(PLACES, np.bool_),
            priority=np.zeros_like(capacity),
            sources=(),
            loss_permille=0,
        )
        average = capacity // DAY_SLOTS
        self._loads = [rng.integers(0, 2 * average + 1) for _ in range(LOADS)]
        self._nothing = np.zeros_like(capacity)
        # Less than half of the band, and of what fits of it between the minimum and the ends of the battery.
        band = np.minimum(self.batteries.band, capacity - minimum)
        band = np.where(minimum > 0, np.minimum(band, minimum), band)
        self._half_band = np.maximum((band - 1) // 2, 0)
        self._rng = rng
        self.wrong = 0

    def hour(self, strategy: str, *, loads: bool) -> tuple[Array, Flags]:
        """Run an hour of noise; return how often each battery switched, and which microgrids were helped."""
        switched, helped = self._nothing.copy(), np.zeros(len(self._nothing), np.bool_)
        for number in range(SLOTS_AN_HOUR):
            before = self.batteries.sharing
            sharing = self.slot(strategy, self._loads[number % LOADS] if loads else self._nothing, noise=True)
            switched += sharing != before
            helped |= sharing.any(axis=1)
        return switched, helped

    def settle(self, strategy: str) -> Flags:
        """Run until help ends; return the microgrids in which it did not, or ended too early."""
        begun = self.batteries.sharing.any(axis=1)
        for _ in range(MOST_SLOTS):
            if not self.slot(strategy, self._nothing, noise=False).any():
                break
        batteries = self.batteries
        beside = batteries.deficit.any(axis=1) & batteries.able.any(axis=1)
        return np.asarray(batteries.sharing.any(axis=1) | begun & beside)

    def slot(self, strategy: str, load: Array, *, noise: bool) -> Flags:
        """Run one slot; return which batteries share in it."""
        odd = self._rng.integers(-self._half_band, self._half_band + 1) if noise else 0
        reported = np.clip(self.level + odd, 0, self.batteries.capacity)
        plan = STRATEGIES[strategy](replace(self.batteries, level=reported, recent=self._slots < LEAST_SLOTS))
        self._slots = np.where(plan.donors, self._slots + 1, 0)
        inputs = Inputs(
            load=load,
            generation=np.zeros_like(load),
            weights=np.where(plan.donors, plan.weights, 0),
            isolated=self.isolated,
        )
        step = step_alone(self.places, self.level, inputs, Boundary.open_to_town(len(load)))
        self.wrong += len(imbalances(self.places, self.level, inputs, step))
        self.level = step.flows.level
        self.batteries = replace(self.batteries, level=self.level, sharing=plan.donors)
        return plan.donors


def watch(strategy: str, seed: tuple[int, int], rows: int) -> Hours:
    """Return what hours of noise and loads, and then help without loads to its end, showed in random microgrids."""
    town = _Town(np.random.default_rng(seed), rows)
    noise, helped = town.hour(strategy, loads=False)
    busy, helped_too = town.hour(strategy, loads=True)
    unsettled = town.settle(strategy)
    return Hours(
        microgrids=rows,
        helped=int((helped | helped_too).sum()),
        limits=town.wrong,
        unsettled=int(unsettled.sum()),
        noisy=int((noise > MAX_SWITCHES).sum()),
        most=int(noise.max()),
        busy=int((busy > MAX_SWITCHES).sum()),
        most_busy=int(busy.max()),
    )

"""400 days of 80 controllers whose clocks leap, against the utility's own decisions: ``python -m harness.care.years``.

Each controller renews the certificates of its gateway and its broker by the real code, in files. Its clock leaps about
every ten days, by up to ten days either way, or starts in 1970, until NTP or the utility corrects it within two days.
A tenth of the answers are lost, each line is away for hours each week, and every tenth controller's once for 120 days.
TLS refuses what it refuses in the field: a utility whose certificate is not valid by the controller's clock, unless
that clock is before the authority began. Looks that would change nothing are left out: while the clock is right and
nothing is due, and while the line is away.
"""

import heapq
import logging
import random
import tempfile
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from commonwatt.care.connection import CareUnreachable
from commonwatt.identity.certificates import Purpose, details_of
from commonwatt.model.time import Now, Trust
from gateway.care.renewal import LAST_RETRY_S, LOOK_S, Renewal
from harness.care.certificates import DAY_S, CareTown

T = 1_790_000_000
CONTROLLERS, DAYS = 80, 400
HOUR_S = 3_600
LOST = 0.1  # share of answers that are lost
CUT_DAYS = 120  # days for which every tenth controller's line is away
SERVER_S = 365 * DAY_S  # the office renews the utility's own certificate each half of this

_CLOCK_EVERY_S, _AWAY_EVERY_S = 10 * DAY_S, 7 * DAY_S


@dataclass
class Times:
    """Periods without an overlap, with a value each."""

    begins: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    values: list[tuple[float | None, Trust]] = field(default_factory=list)

    def add(self, begin: int, end: int, value: tuple[float | None, Trust] = (None, Trust.NETWORK)) -> None:
        begin = max([begin, *self.ends[-1:]])
        if begin < end:
            self.begins.append(begin)
            self.ends.append(end)
            self.values.append(value)

    def at(self, now: int) -> int | None:
        """Return the number of the period at a time."""
        number = bisect_right(self.begins, now) - 1
        return number if number >= 0 and now < self.ends[number] else None

    def next_after(self, now: int) -> int:
        """Return when the next one begins."""
        number = bisect_right(self.begins, now)
        return self.begins[number] if number < len(self.begins) else T + 2 * DAYS * DAY_S


class Controller:
    """A controller with its line, its clock, and its two renewals."""

    def __init__(self, town: CareTown, number: int, rng: random.Random) -> None:
        self.town, self.rng = town, rng
        name = f"r{number:03}"
        self.away, self.leaps = Times(), Times()
        cut = T + rng.randrange(20, DAYS - CUT_DAYS - 20) * DAY_S if number % 10 == 0 else None
        now = T
        while now < T + DAYS * DAY_S:
            now += int(rng.expovariate(1 / _AWAY_EVERY_S))
            if cut is not None and now >= cut:
                now = cut + CUT_DAYS * DAY_S
                self.away.add(cut, now)
                cut = None
            else:
                self.away.add(now, now + rng.randrange(60, 8 * HOUR_S))
        now = T
        while now < T + DAYS * DAY_S:
            now += int(rng.expovariate(1 / _CLOCK_EVERY_S))
            leap = rng.choice([None, rng.uniform(-10, 10)])  # days; ``None``: it starts in 1970
            trust = Trust.NONE if leap is None else rng.choice([Trust.NONE, Trust.METERS, Trust.HARDWARE])
            self.leaps.add(now, now + rng.randrange(60, 2 * DAY_S), (leap, trust))
        self.renewals = [
            Renewal(town.file(name, Purpose.DEVICE), self.post, self.clock, self.accepted),
            Renewal(town.file(name, Purpose.BROKER), self.post, self.clock, lambda: True),
        ]

    def clock(self) -> Now:
        """Return the time as the controller has it."""
        now = self.town.now
        if (number := self.leaps.at(now)) is None:
            return Now(now, Trust.NETWORK)
        leap, trust = self.leaps.values[number]
        return Now(now - self.leaps.begins[number] if leap is None else now + int(leap * DAY_S), trust)

    @property
    def reaches(self) -> bool:
        """Whether its line is there, and TLS accepts the utility by the controller's clock."""
        now, clock = self.town.now, self.clock()
        begin = now - (now - T) % (SERVER_S // 2)
        return self.away.at(now) is None and (clock < T or begin <= clock < begin + SERVER_S)

    def accepted(self) -> bool:
        """Return whether the head-end accepts the present certificate: by its own clock."""
        return self.reaches and not self.has_ended(0)

    def has_ended(self, number: int) -> bool:
        return self.town.now >= details_of(self.renewals[number].file.path.read_bytes())[0].ends

    def post(self, path: str, content: dict[str, object]) -> dict[str, object]:
        if not self.reaches:
            raise CareUnreachable("away")
        answer = self.town.post(path, content)
        if self.rng.random() < LOST:
            raise CareUnreachable("the answer is lost")
        return answer

    def next_look(self, number: int, wait_s: float) -> int:
        """Return when the next look is that may find something."""
        now = self.town.now
        until = self.leaps.next_after(now)
        if wait_s == LOOK_S and self.leaps.at(now) is None:
            until = min(until, self.renewals[number].file.due())
        elif wait_s == LAST_RETRY_S and (away := self.away.at(now)) is not None:
            until = min(until, self.away.ends[away])
        else:
            until = now
        return now + max(1, -(-(until - now) // int(wait_s))) * int(wait_s)


@dataclass
class Figures:
    """What happened."""

    results: Counter[str]  # looks of all controllers by result
    ended: int  # certificates that ended while the utility could be reached
    ended_away: int  # certificates that ended without the utility
    visits: int  # certificates that only a person can renew, at the end
    longest_s: int  # longest time from the line's return until such a certificate was renewed


def run(folder: Path, controllers: int = CONTROLLERS, seed: int = 1) -> Figures:
    """Simulate, and return the figures."""
    rng = random.Random(seed)
    town = CareTown(folder, [f"r{number:03}" for number in range(controllers)], T)
    all_of = [Controller(town, number, random.Random(rng.random())) for number in range(controllers)]
    looks = [(T + rng.randrange(HOUR_S), each, number) for each in range(controllers) for number in (0, 1)]
    heapq.heapify(looks)
    figures = Figures(results=Counter(), ended=0, ended_away=0, visits=0, longest_s=0)
    while looks and looks[0][0] < T + DAYS * DAY_S:
        town.now, index, number = heapq.heappop(looks)
        controller = all_of[index]
        renewal = controller.renewals[number]
        ended = details_of(renewal.file.path.read_bytes())[0].ends
        wait_s = renewal.look(float(town.now))
        if town.now >= ended and details_of(renewal.file.path.read_bytes())[0].ends > ended:
            back = max((end for end in controller.away.ends if end <= town.now), default=T)
            away = controller.away.at(ended) is not None
            figures.ended_away += away
            figures.ended += not away
            figures.longest_s = max(figures.longest_s, town.now - max(back, ended))
        heapq.heappush(looks, (controller.next_look(number, wait_s), index, number))
    town.now = T + DAYS * DAY_S
    for controller in all_of:
        for number, renewal in enumerate(controller.renewals):
            figures.results += renewal.results
            figures.visits += controller.has_ended(number) and controller.away.at(town.now) is None
    return figures


def main() -> None:
    """Run, and print the figures."""
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        figures = run(Path(folder))
    print(f"{CONTROLLERS} controllers, {DAYS} days: {dict(figures.results)}")
    print(f"certificates that ended while the utility could be reached: {figures.ended}")
    print(f"during {CUT_DAYS} days without it: {figures.ended_away}; renewed {figures.longest_s} s later at most")
    print(f"visits: {figures.visits}")


if __name__ == "__main__":
    main()

"""Turns of hosted microgrids on one line, on a virtual clock: shares by weight, live data first, nothing saved up."""

from collections import deque
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from gateway.relay.turns import LATE_S, WINDOW, WINDOW_BYTES, Turns

RATE = 125_000  # bytes a second: 1 Mbit/s
WEIGHTS = {"homes": 1.0, "flats": 1.0, "hospital": 2.0}
MOST = 100_000


@dataclass
class Line:
    """A line that carries one batch after the other, each acknowledged at its end."""

    backlog: dict[str, deque[int]]
    turns: Turns = field(default_factory=Turns)
    now: float = 0.0
    flying: deque[tuple[str, int, int]] = field(default_factory=deque)
    acknowledged: dict[str, float] = field(default_factory=lambda: dict.fromkeys(WEIGHTS, 0.0))
    sequence: int = 0

    def __post_init__(self) -> None:
        for name, weight in WEIGHTS.items():
            self.turns.join(name)
            self.turns.weigh(name, weight)

    def send(self, name: str, size: int) -> None:
        self.sequence += 1
        self.turns.sent(name, self.sequence, size, int(self.now))
        self.flying.append((name, self.sequence, size))

    def ask(self) -> None:
        """Let each owner send what it may, as after a commit."""
        for name, sizes in self.backlog.items():
            while sizes and self.turns.may_send(name, int(self.now)):
                self.send(name, sizes.popleft())
            if not sizes:
                self.turns.rest(name)

    def carry(self) -> tuple[str, int]:
        name, sequence, size = self.flying.popleft()
        self.now += size / RATE
        self.turns.ended(name, sequence)
        self.acknowledged[name] += size / WEIGHTS[name]
        return name, size


def spread(line: Line) -> float:
    """Return how far an owner with a backlog is from the mean of them, in bytes acknowledged by weight."""
    left = [line.acknowledged[name] for name, sizes in line.backlog.items() if sizes]
    mean = sum(left) / len(left) if left else 0
    return max((abs(one - mean) for one in left), default=0)


SIZES = st.lists(st.integers(1000, MOST), min_size=20, max_size=60).map(deque)


@given(st.fixed_dictionaries(dict.fromkeys(WEIGHTS, SIZES)))
def test_bytes_are_shared_by_weight_within_two_batches_as_long_as_all_have_a_backlog(
    backlog: dict[str, deque[int]],
) -> None:
    line = Line(backlog)
    line.ask()
    # What the first one sent before the others had asked is no debt.
    for name, _, size in line.flying:
        line.acknowledged[name] -= size / WEIGHTS[name]
    while line.flying:
        assert sum(size for _, _, size in line.flying) < WINDOW_BYTES + MOST
        line.carry()
        line.ask()
        if all(line.backlog.values()):
            assert spread(line) <= 2 * MOST
    assert not any(line.backlog.values()), "all is sent in the end"


def test_what_an_owner_with_an_empty_backlog_did_not_use_it_does_not_get_later() -> None:
    line = Line({"homes": deque(), "flats": deque([10_000] * 500), "hospital": deque()})
    line.ask()
    for _ in range(200):
        line.carry()
        line.ask()
    line.backlog["homes"] = deque([10_000] * 200)
    before = dict(line.acknowledged)
    for _ in range(60):
        line.ask()
        line.carry()
    gained = {name: line.acknowledged[name] - before[name] for name in ("homes", "flats")}
    assert abs(gained["homes"] - gained["flats"]) <= 2 * WINDOW * 10_000


def test_live_data_of_any_owner_goes_before_anybodys_backlog() -> None:
    line = Line({"homes": deque([10_000] * 9), "flats": deque([10_000] * 9), "hospital": deque()})
    line.turns.due("flats", 0)
    assert not line.turns.may_send("homes", 0)
    line.send("flats", 500)
    assert line.turns.may_send("homes", 0)


def test_an_owner_whose_acknowledgements_do_not_come_or_that_does_not_ask_holds_up_nobody() -> None:
    line = Line({"homes": deque([10_000] * 9), "flats": deque([10_000] * 9), "hospital": deque()})
    while line.turns.may_send("homes", 0):
        line.send("homes", 10_000)
    line.turns.due("homes", 0)
    assert not line.turns.may_send("flats", 0), "the window is full"
    assert line.turns.may_send("flats", LATE_S + 1)


def test_what_the_line_lost_is_sent_again_in_the_same_owners_turn() -> None:
    line = Line({name: deque([10_000] * 9) for name in WEIGHTS})
    line.ask()
    for name, sequence, size in line.flying:
        line.turns.ended(name, sequence, lost=True)
        line.backlog[name].appendleft(size)
    line.flying.clear()
    line.ask()
    while all(line.backlog.values()):
        line.carry()
        line.ask()
    assert spread(line) <= 20_000

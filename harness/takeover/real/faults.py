"""The faults of the bench: what happens to a controller, who manages its microgrid then, and how it is mended."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from commonwatt.protocol.topics import UTILITY
from harness.takeover.real.town import METERS, NAMES, RESTART_S, UTILITY_PARTS, Town, broker, gateway

PAUSE_S = 60.0  # seconds for which a process is stopped

Action = Callable[[Town], None]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault of the town."""

    words: str  # what happens
    utility: bool  # whether the utility runs
    happens: Action  # does it
    mended: Action  # ends it
    managers: dict[str, str] = field(default_factory=dict)  # the new managers of microgrids that get one
    within_s: float  # seconds from the fault until the first meter of each obeys it


def _blackholed(*names: str) -> Action:
    def happens(town: Town) -> None:
        for name in names:
            town.machines.blackhole(name)

    return happens


def _restored(*names: str) -> Action:
    def mended(town: Town) -> None:
        for name in names:
            town.machines.restore(name)

    return mended


def _killed(*parts: str) -> Action:
    def happens(town: Town) -> None:
        for part in parts:
            town.kill(part)

    return happens


def _started(*parts: str) -> Action:
    return lambda town: town.start(*parts)


def _killed_and_restarted(part: str) -> Action:
    def happens(town: Town) -> None:
        town.kill(part)
        time.sleep(RESTART_S)
        town.start(part, loaded=False)

    return happens


def _all(*actions: Action) -> Action:
    def does(town: Town) -> None:
        for action in actions:
            action(town)

    return does


def _nothing(town: Town) -> None:
    del town


def _paused(town: Town) -> None:
    town.processes[gateway("r001")].send_signal(signal.SIGSTOP)


def _goes_on(town: Town) -> None:
    town.processes[gateway("r001")].send_signal(signal.SIGCONT)


def _cut(*pairs: tuple[str, str]) -> Action:
    def happens(town: Town) -> None:
        for pair in pairs:
            town.machines.cut(*pair)

    return happens


def _joined(*pairs: tuple[str, str]) -> Action:
    def mended(town: Town) -> None:
        for pair in pairs:
            town.machines.mend(*pair)

    return mended


_OTHERS = NAMES[1:]
_APART = tuple(pair for other in _OTHERS for pair in (("r001", other), (other, "r001")))
_ONE_WAY = tuple(("r001", other) for other in (*_OTHERS, UTILITY))
_NO_METERS = (("r001", METERS), (METERS, "r001"))
_TO_THE_NEXT = {"r001": "r002"}


def blackhole(*, utility: bool) -> Fault:
    """Return the loss of a controller of which nothing comes any more."""
    return Fault(
        words=f"blackholed, {_with(utility)}",
        utility=utility,
        happens=_blackholed("r001"),
        mended=_restored("r001"),
        managers=_TO_THE_NEXT,
        within_s=5,
    )


def pause(*, utility: bool, within_s: float = 5) -> Fault:
    """Return the pause of a gateway, whose broker lives.

    Args:
        utility: Whether the utility runs.
        within_s: Seconds within which another one is obeyed; more in a town that has just started.
    """
    return Fault(
        words=f"SIGSTOP of the gateway for {PAUSE_S:.0f} s, {_with(utility)}",
        utility=utility,
        happens=_paused,
        mended=_goes_on,
        managers=_TO_THE_NEXT,
        within_s=within_s,
    )


def _with(utility: bool) -> str:
    return "with the utility" if utility else "without the utility"


def _both(words: str, happens: Action, mended: Action, within_s: float, managers: dict[str, str]) -> list[Fault]:
    return [
        Fault(
            words=f"{words}, {_with(utility)}",
            utility=utility,
            happens=happens,
            mended=mended,
            managers=managers,
            within_s=within_s,
        )
        for utility in (True, False)
    ]


FAULTS: tuple[Fault, ...] = (
    blackhole(utility=True),
    *(pause(utility=utility) for utility in (True, False)),
    *_both("gateway killed, started again after 0.2 s", _killed_and_restarted(gateway("r001")), _nothing, 5, {}),
    *_both("gateway killed, its broker lives", _killed(gateway("r001")), _started(gateway("r001")), 5, _TO_THE_NEXT),
    *_both("broker killed, started again after 0.2 s", _killed_and_restarted(broker("r001")), _nothing, 30, {}),
    *_both("broker killed, its gateway lives", _killed(broker("r001")), _started(broker("r001")), 20, _TO_THE_NEXT),
    Fault(
        words="blackholed, and the head-end killed in the same second",
        utility=True,
        happens=_all(_blackholed("r001"), _killed(*UTILITY_PARTS)),
        mended=_all(_restored("r001"), _started(*UTILITY_PARTS)),
        managers=_TO_THE_NEXT,
        within_s=15,
    ),
    *_both(
        "two of three blackholed",
        _blackholed("r001", "r002"),
        _restored("r001", "r002"),
        15,
        {"r001": "r003", "r002": "r003"},
    ),
    Fault(
        words="the clique cut one against two, without the utility",
        utility=False,
        happens=_cut(*_APART),
        mended=_joined(*_APART),
        managers=_TO_THE_NEXT,
        within_s=15,
    ),
    Fault(
        words="the clique cut one against two, with the utility",
        utility=True,
        happens=_cut(*_APART),
        mended=_joined(*_APART),
        within_s=60,
    ),
    *_both("one-way line: it is not heard", _cut(*_ONE_WAY), _joined(*_ONE_WAY), 15, _TO_THE_NEXT),
)
"""The faults that the bench shows once each; 20 of the first kind besides."""

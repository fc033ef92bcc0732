"""The faults of the bench: what happens to a controller, who manages its microgrid then, and how it is mended."""

from dataclasses import dataclass, field
from typing import Any

from commonwatt.protocol.topics import UTILITY
from harness.takeover.real.actions import (
    R001,
    Action,
    blackholed,
    clock,
    clocked,
    copied,
    cut,
    emptied,
    goes_on,
    held_by,
    in_turn,
    joined,
    killed,
    killed_and_restarted,
    nothing,
    older,
    paused,
    put_back,
    restored,
    started,
    stopped,
    taken,
    upgraded,
    waits,
)
from harness.takeover.real.intruder import (
    clock_once_ahead,
    day_of_beats,
    emptied_and_started,
    left,
    lies,
    recorded,
    sent_again,
)
from harness.takeover.real.town import METERS, NAMES, UTILITY_PARTS, broker, gateway

PAUSE_S = 60.0  # seconds for which a process is stopped


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault of the town."""

    words: str  # what happens
    utility: bool  # whether the utility runs
    happens: Action  # does it
    mended: Action  # ends it
    # The new managers of microgrids that get one; ``None``: it may get one.
    managers: dict[str, str | None] = field(default_factory=dict)
    within_s: float  # seconds from the fault until the first meter of each obeys it
    moves: bool = True  # whether all meters move to the new manager; otherwise those with a battery obey it
    away_s: float = 0.0  # seconds after which the old manager is back, and commands on meters that hear it alone
    loses: bool = False  # whether a store is lost, with what was acknowledged and not yet relayed (docs/stores.md)
    prepared: Action = nothing  # what is done before the town starts
    before: Action = nothing  # what is done in the town that runs, before the fault


_OTHERS = NAMES[1:]
_APART = tuple(pair for other in _OTHERS for pair in (("r001", other), (other, "r001")))
_ONE_WAY = tuple(("r001", other) for other in (*_OTHERS, UTILITY))
_NO_UTILITY = (("r001", UTILITY), (UTILITY, "r001"))
_NO_METERS = (("r001", METERS), (METERS, "r001"))
_MAYBE: dict[str, str | None] = {"r001": None}
_TO_THE_NEXT: dict[str, str | None] = {"r001": "r002"}
_OLD_LOST_S = 270.0  # seconds after which three heartbeats of an older release are missing, and a little more
_UNREACHED_S = 200.0  # seconds after which a manager says that it does not reach its meters, and is lost for control


def blackhole(*, utility: bool) -> Fault:
    """Return the loss of a controller of which nothing comes any more."""
    return Fault(
        words=f"blackholed, {_with(utility)}",
        utility=utility,
        happens=blackholed("r001"),
        mended=restored("r001"),
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
        happens=paused,
        mended=goes_on,
        managers=_TO_THE_NEXT,
        within_s=within_s,
    )


def _with(utility: bool) -> str:
    return "with the utility" if utility else "without the utility"


def _both(
    words: str, happens: Action, mended: Action, within_s: float, managers: dict[str, str | None], **more: Any
) -> list[Fault]:
    return [
        Fault(
            words=f"{words}, {_with(utility)}",
            utility=utility,
            happens=happens,
            mended=mended,
            managers=managers,
            within_s=within_s,
            **more,
        )
        for utility in (True, False)
    ]


_FLAPS = in_turn(*(blackholed("r001"), waits(20), restored("r001"), waits(20)) * 10, blackholed("r001"))
# The third one, since who gets a microgrid twice in 10 min keeps it longer.
_TAKEN_ONCE = in_turn(
    copied,
    blackholed("r001", "r002"),
    held_by(r001="r003"),
    restored("r001"),
    held_by(r001="r001"),
    restored("r002"),
    held_by(r002="r002"),
)

FAULTS: tuple[Fault, ...] = (
    blackhole(utility=True),
    *(pause(utility=utility) for utility in (True, False)),
    *_both("gateway killed, started again after 0.2 s", killed_and_restarted(gateway("r001")), nothing, 5, _MAYBE),
    *_both("gateway killed, its broker lives", killed(gateway("r001")), started(gateway("r001")), 5, _TO_THE_NEXT),
    *_both("broker killed, started again after 0.2 s", killed_and_restarted(broker("r001")), nothing, 30, {}),
    *_both("broker killed, its gateway lives", killed(broker("r001")), started(broker("r001")), 20, _TO_THE_NEXT),
    Fault(
        words="blackholed, and the head-end killed in the same second",
        utility=True,
        happens=in_turn(blackholed("r001"), killed(*UTILITY_PARTS)),
        mended=in_turn(restored("r001"), started(*UTILITY_PARTS)),
        managers=_TO_THE_NEXT,
        within_s=15,
    ),
    *_both(
        "two of three blackholed",
        blackholed("r001", "r002"),
        in_turn(restored("r001"), waits(5), restored("r002")),  # else the second one may be the first to be steady
        15,
        {"r001": "r003", "r002": "r003"},
    ),
    Fault(
        words="the clique cut one against two, without the utility",
        utility=False,
        happens=cut(*_APART),
        mended=joined(*_APART),
        managers=_TO_THE_NEXT,
        within_s=15,
    ),
    Fault(
        words="the clique cut one against two, with the utility",
        utility=True,
        happens=cut(*_APART),
        mended=joined(*_APART),
        within_s=60,
    ),
    *_both(
        "its meters cut off, all hear each other", cut(*_NO_METERS), joined(*_NO_METERS), _UNREACHED_S, _TO_THE_NEXT
    ),
    *_both(
        "its clock two hours ahead for 30 s, then two hours behind",
        in_turn(clock(7200), waits(30), clock(-7200)),
        clock(0),
        90,
        {},
        prepared=clocked,
    ),
    *_both("blackholed and restored each 20 s", _FLAPS, restored("r001"), 5, _TO_THE_NEXT, away_s=20),
    *_both(
        "gateway stopped, started again after 20 s",
        in_turn(stopped(gateway("r001")), waits(20), started(gateway("r001"))),
        nothing,
        30,
        {},
    ),
    *_both(
        "gateway and broker stopped, started again after 20 s",
        in_turn(stopped(gateway("r001"), broker("r001")), waits(20), started(*R001)),
        nothing,
        45,
        {},
    ),
    *_both(
        "gateway and broker killed, back with an old store",
        killed(*R001),
        in_turn(put_back, started(*R001)),
        15,  # it was taken for lost a minute ago, though it lived
        _TO_THE_NEXT,
        loses=True,
        before=_TAKEN_ONCE,
    ),
    *_both(
        "gateway and broker killed, back with an empty store",
        killed(*R001),
        in_turn(emptied, started(*R001)),
        5,
        _TO_THE_NEXT,
        loses=True,
    ),
    *_both(
        "blackholed for 3 s",
        in_turn(blackholed("r001"), waits(3), restored("r001")),
        nothing,
        90,
        _MAYBE,
    ),
    *_both(
        "blackholed until the next one has it",
        in_turn(blackholed("r001"), taken, restored("r001")),
        nothing,
        5,
        _TO_THE_NEXT,
        moves=False,
    ),
    Fault(
        words="blackholed, the utility starts after the takeover",
        utility=False,
        happens=blackholed("r001"),
        mended=in_turn(started(*UTILITY_PARTS), waits(60), restored("r001")),
        managers=_TO_THE_NEXT,
        within_s=5,
    ),
    *_both(
        "one of an older release beside the two, another one blackholed",
        blackholed("r002"),
        restored("r002"),
        20,
        {"r002": "r003"},
        prepared=older,
    ),
    *(
        Fault(
            words=f"one of an older release blackholed, then upgraded, {_with(utility)}",
            utility=utility,
            happens=blackholed("r001"),
            mended=in_turn(restored("r001"), upgraded),
            managers=_TO_THE_NEXT,
            within_s=within_s,
            prepared=older,
        )
        for utility, within_s in ((True, _OLD_LOST_S), (False, 45))
    ),
    *_both("one of an older release upgraded", upgraded, nothing, 15, {}, prepared=older),
    Fault(
        words="its line to the utility is lost, the others hear it",
        utility=True,
        happens=cut(*_NO_UTILITY),
        mended=joined(*_NO_UTILITY),
        managers=_TO_THE_NEXT,
        within_s=15,
    ),
    *_both("one-way line: it is not heard", cut(*_ONE_WAY), joined(*_ONE_WAY), 15, _TO_THE_NEXT),
    *_both(
        "gateway killed, its recorded beats are sent each second",
        in_turn(sent_again, killed(gateway("r001"))),
        in_turn(left, started(gateway("r001"))),
        5,
        _TO_THE_NEXT,
        before=recorded,
    ),
    *_both(
        "recordings of its start before are sent each second",
        sent_again,
        left,
        90,
        {},
        before=in_turn(recorded, killed_and_restarted(gateway("r001")), held_by(r001="r001")),
    ),
    *_both(
        "an empty store after a day of beats",
        emptied_and_started,
        nothing,
        20,
        _MAYBE,
        loses=True,
        before=in_turn(killed(gateway("r001")), day_of_beats),
    ),
    Fault(
        words="blackholed; the utility was started once with a clock a month ahead",
        utility=True,
        happens=blackholed("r001"),
        mended=restored("r001"),
        managers=_TO_THE_NEXT,
        within_s=15,
        before=clock_once_ahead(UTILITY),
    ),
    *_both(
        "blackholed, after a thief lied under the name of the third",
        blackholed("r001"),
        in_turn(restored("r001"), started(gateway("r003"))),
        15,
        {"r001": "r002", "r003": None},
        before=in_turn(killed(gateway("r003")), lies),
    ),
)
"""The faults that the bench shows once each; 20 of the first kind besides."""

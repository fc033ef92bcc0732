"""The faults of the bench: what happens to a controller, who manages its microgrid then, and how it is mended."""

import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from commonwatt.protocol.topics import UTILITY
from harness.network.waiting import eventually
from harness.real.fake_clock import FakeClock
from harness.real.releases import BEFORE_TAKEOVER, old_release
from harness.takeover.real.register import registering
from harness.takeover.real.town import METERS, NAMES, RESTART_S, UTILITY_PARTS, Town, broker, gateway

PAUSE_S = 60.0  # seconds for which a process is stopped

Action = Callable[[Town], None]


def _nothing(town: Town) -> None:
    del town


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
    prepared: Action = _nothing  # what is done before the town starts
    before: Action = _nothing  # what is done in the town that runs, before the fault


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


def _waits(seconds: float) -> Action:
    return lambda town: time.sleep(seconds)


def _stopped(*parts: str) -> Action:
    def happens(town: Town) -> None:
        for part in parts:
            town.stop(part)

    return happens


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


def _held_by(holder: str, within_s: float) -> Action:
    return lambda town: town.eventually_held_by({"r001": holder}, within_s)


def _granted(town: Town) -> None:
    """Wait until the next controller manages the microgrid of the first one."""
    eventually(lambda: "manages r001 under epoch" in town.log(gateway("r002")).read_text())


def _clocked(town: Town) -> None:
    """Give the first controller a clock that can be set, and that nobody keeps right."""
    town.environments[gateway("r001")] = FakeClock(town.folder, "r001").environment
    town.codes[gateway("r001")] = "import commonwatt.runtime.clock as c; c._synchronised = lambda: False"


def _clock(ahead_s: float) -> Action:
    return lambda town: FakeClock(town.folder, "r001").set(ahead_s)


# The first controller's store.


def _stores(town: Town) -> list[Path]:
    return sorted((town.folder / "r001").glob("gateway*.db*"))


def _copied(town: Town) -> None:
    (town.folder / "copy").mkdir()
    for store in (path for path in _stores(town) if path.suffix == ".db"):
        with (
            closing(sqlite3.connect(store)) as source,
            closing(sqlite3.connect(town.folder / "copy" / store.name)) as to,
        ):
            source.backup(to)


def _emptied(town: Town) -> None:
    for path in _stores(town):
        path.unlink()


def _put_back(town: Town) -> None:
    _emptied(town)
    shutil.copytree(town.folder / "copy", town.folder / "r001", dirs_exist_ok=True)


# The first controller's release.


def _older(town: Town) -> None:
    """Let the first controller run the release before takeover, with the settings of that release."""
    with registering:
        older = old_release(BEFORE_TAKEOVER, town.folder / "older")
    for part in _R001:
        town.environments[part] = {}
        town.codes[part] = f"import sys; sys.path.insert(0, {str(older)!r})"
    settings = town.folder / "r001" / "gateway.toml"
    settings.rename(settings.with_suffix(".new"))
    lines = settings.with_suffix(".new").read_text().splitlines()
    settings.write_text("\n".join(line for line in lines if not line.startswith(("clique", "beats"))))
    town.silent.add("r001")


def _upgraded(town: Town) -> None:
    """Stop the older release, and start this one with the same store."""
    town.stop(gateway("r001"))
    town.stop(broker("r001"))
    settings = town.folder / "r001" / "gateway.toml"
    settings.with_suffix(".new").rename(settings)
    for part in _R001:
        del town.codes[part], town.environments[part]
    town.silent.clear()
    town.start(broker("r001"), gateway("r001"))


_R001 = (broker("r001"), gateway("r001"))
_OTHERS = NAMES[1:]
_APART = tuple(pair for other in _OTHERS for pair in (("r001", other), (other, "r001")))
_ONE_WAY = tuple(("r001", other) for other in (*_OTHERS, UTILITY))
_NO_METERS = (("r001", METERS), (METERS, "r001"))
_TO_THE_NEXT: dict[str, str | None] = {"r001": "r002"}
_OLD_LOST_S = 270.0  # seconds after which three heartbeats of an older release are missing, and a little more
_UNREACHED_S = 200.0  # seconds after which a manager says that it does not reach its meters, and is lost for control


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


def _both(
    words: str,
    happens: Action,
    mended: Action,
    within_s: float,
    managers: dict[str, str | None],
    *,
    moves: bool = True,
    prepared: Action = _nothing,
    before: Action = _nothing,
) -> list[Fault]:
    return [
        Fault(
            words=f"{words}, {_with(utility)}",
            utility=utility,
            happens=happens,
            mended=mended,
            managers=managers,
            within_s=within_s,
            moves=moves,
            prepared=prepared,
            before=before,
        )
        for utility in (True, False)
    ]


_FLAPS = _all(*(_blackholed("r001"), _waits(20), _restored("r001"), _waits(20)) * 10, _blackholed("r001"))
_TAKEN_ONCE = _all(_copied, _blackholed("r001"), _held_by("r002", 180), _restored("r001"), _held_by("r001", 180))

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
    *_both(
        "its meters cut off, all hear each other", _cut(*_NO_METERS), _joined(*_NO_METERS), _UNREACHED_S, _TO_THE_NEXT
    ),
    *_both(
        "its clock two hours ahead for 30 s, then two hours behind",
        _all(_clock(7200), _waits(30), _clock(-7200)),
        _clock(0),
        90,
        {},
        prepared=_clocked,
    ),
    *_both("blackholed and restored each 20 s", _FLAPS, _restored("r001"), 5, _TO_THE_NEXT),
    *_both(
        "gateway stopped, started again after 20 s",
        _all(_stopped(gateway("r001")), _waits(20), _started(gateway("r001"))),
        _nothing,
        30,
        {},
    ),
    *_both(
        "gateway and broker stopped, started again after 20 s",
        _all(_stopped(gateway("r001"), broker("r001")), _waits(20), _started(*_R001)),
        _nothing,
        45,
        {},
    ),
    *_both(
        "gateway and broker killed, back with an old store",
        _killed(*_R001),
        _all(_put_back, _started(*_R001)),
        5,
        _TO_THE_NEXT,
        before=_TAKEN_ONCE,
    ),
    *_both(
        "gateway and broker killed, back with an empty store",
        _killed(*_R001),
        _all(_emptied, _started(*_R001)),
        5,
        _TO_THE_NEXT,
    ),
    *_both(
        "blackholed for 3 s",
        _all(_blackholed("r001"), _waits(3), _restored("r001")),
        _nothing,
        90,
        {"r001": None},
    ),
    *_both(
        "blackholed until the next one has it",
        _all(_blackholed("r001"), _granted, _restored("r001")),
        _nothing,
        5,
        _TO_THE_NEXT,
        moves=False,
    ),
    Fault(
        words="blackholed, the utility starts after the takeover",
        utility=False,
        happens=_blackholed("r001"),
        mended=_all(_started(*UTILITY_PARTS), _waits(60), _restored("r001")),
        managers=_TO_THE_NEXT,
        within_s=5,
    ),
    *_both(
        "one of an older release beside the two, another one blackholed",
        _blackholed("r002"),
        _restored("r002"),
        20,
        {"r002": "r003"},
        prepared=_older,
    ),
    Fault(
        words="one of an older release blackholed, then upgraded, with the utility",
        utility=True,
        happens=_blackholed("r001"),
        mended=_all(_restored("r001"), _upgraded),
        managers=_TO_THE_NEXT,
        within_s=_OLD_LOST_S,
        prepared=_older,
    ),
    Fault(
        words="one of an older release blackholed, then upgraded, without the utility",
        utility=False,
        happens=_blackholed("r001"),
        mended=_all(_restored("r001"), _upgraded),
        managers=_TO_THE_NEXT,
        within_s=30,
        prepared=_older,
    ),
    *_both("one of an older release upgraded", _upgraded, _nothing, 15, {}, prepared=_older),
    *_both("one-way line: it is not heard", _cut(*_ONE_WAY), _joined(*_ONE_WAY), 15, _TO_THE_NEXT),
)
"""The faults that the bench shows once each; 20 of the first kind besides."""

"""A street of ten homes with devices of ten makers: they share and reduce, and end both when the adapter is killed."""

from pathlib import Path

from commonwatt.protocol.commands import Stage
from harness.foreign.commanded import Habit
from harness.foreign.street import Street, street
from harness.network.waiting import PATIENCE_S, eventually

LONG_S = 4 * PATIENCE_S  # a battery that a slow machine took for disobedient is told again after ten town minutes


def stages(shown: Street, kind: str) -> dict[int, Stage]:
    found = shown.devices()
    return {meter: one.states[kind].stage for meter, one in found.items() if kind in one.states}


def test_batteries_share_loads_reduce_and_one_that_does_not_obey_is_named(tmp_path: Path) -> None:
    """# req: K5, M8, C2, C5"""
    with street(tmp_path) as shown:
        victron, *others = [home for home in shown.homes if home.is_battery]
        loads = [home for home in shown.homes if not home.is_battery]
        eventually(lambda: len(shown.givers()) == 5, LONG_S)
        eventually(lambda: set(stages(shown, "sharing").values()) == {Stage.OBEYS}, LONG_S)
        shown.player.ignore(victron)
        eventually(lambda: stages(shown, "sharing")[victron.meter] is Stage.DISOBEYS, LONG_S)
        eventually(lambda: shown.roles()[victron.meter] == "out")
        eventually(lambda: all(home.device.value for home in others), LONG_S)
        shown.player.set_habit(victron, Habit.OBEYS)
        eventually(lambda: len(shown.givers()) == 5, LONG_S)
        shown.command("reduce", "state=on", "for_s=7200")
        eventually(lambda: all(home.device.value for home in loads), LONG_S)
        shown.kill("adapter")
        eventually(lambda: not any(home.device.value for home in shown.homes), LONG_S)
        shown.restart("adapter")
        eventually(lambda: all(home.device.value for home in shown.homes), LONG_S)

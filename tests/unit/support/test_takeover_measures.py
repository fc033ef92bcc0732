"""The measures of the bench of takeover: what counts as obeyed, as old, and as two managers at once."""

from commonwatt.protocol.commands import Epoch
from harness.takeover.real.measures import granted_twice, handovers, managers, old_commands, refused, times, together_s
from harness.takeover.real.watched import Commanded


def commanded(at: float, meter: int, issuer: str, epoch: Epoch, result: str = "done") -> Commanded:
    return Commanded(
        at=at,
        microgrid="r001",
        meter=meter,
        via=issuer,
        cmd="initialize",
        issuer=issuer,
        epoch=epoch,
        result=result,
    )


OLD: Epoch = (1, 1)
NEW: Epoch = (2, 2)
BEFORE = [commanded(1, meter, "r001", OLD) for meter in (1, 2, 3)]


def test_the_first_obeyed_command_of_the_new_manager_counts() -> None:
    seen = [
        *BEFORE,
        commanded(12, 1, "r002", NEW, "refused"),
        commanded(13, 1, "r002", NEW),
        commanded(14, 2, "r002", NEW),
        commanded(70, 3, "r002", NEW),
    ]
    found = times(seen, 10, "r002", (1, 2, 3), {2})
    assert (found.first_s, found.battery_s, found.most_s, found.last_s) == (3, 4, 60, 60)
    assert managers(seen, "r001") == ("r001", "r002")
    assert handovers([*seen, commanded(130, 1, "r001", (3, 1))], "r001") == 2


def test_a_meter_that_never_obeys_is_never_reached() -> None:
    assert times(BEFORE, 10, "r002", (1, 2, 3), {2}).first_s == float("inf")


def test_old_commands_are_those_below_what_the_meter_obeyed() -> None:
    late = [commanded(20, 1, "r001", OLD, "fenced"), commanded(21, 2, "r001", OLD), commanded(22, 1, "r001", OLD)]
    seen = [*BEFORE, commanded(13, 1, "r002", NEW), *late]
    assert old_commands(seen) == (2, 1), "meter 2 has not heard of the new manager"


def test_two_managers_at_once_are_those_that_two_meters_obey() -> None:
    seen = [*BEFORE, commanded(13, 1, "r002", NEW), commanded(16, 2, "r001", OLD)]
    assert together_s(seen) == 0
    assert together_s([*seen, commanded(17, 3, "r001", OLD)]) == 4


def test_an_epoch_of_two_controllers_is_named() -> None:
    assert granted_twice([*BEFORE, commanded(2, 1, "r003", OLD)]) == ["r001 [1, 1]: ['r001', 'r003']"]


def test_a_refusal_counts_against_the_manager_in_force_alone() -> None:
    seen = [*BEFORE, commanded(5, 1, "r001", (0, 9), "fenced"), commanded(6, 1, "r001", OLD, "refused")]
    assert refused(seen, 4) == 1

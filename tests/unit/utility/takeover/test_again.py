"""A microgrid's next manager is sent what the utility's commands set and still holds (R12)."""

import json
from typing import Any

from commonwatt.protocol.controller_commands import ControllerCommand, ControllerOutcome
from tests.unit.utility.conftest import NOW
from utility.database.database import Database
from utility.outbox.changes import CloseCommand, OpenCommand
from utility.outbox.settings import Earlier, to_repeat
from utility.outbox.store.commands import add_command, open_commands
from utility.readings.store.writer import Writer
from utility.takeover.history import GRANTED, RENEWED, Handover
from utility.takeover.store import save


def earlier(cmd: str, ago: int, *, is_done: bool = True, **keys: Any) -> Earlier:
    message = {"id": f"{cmd}-{ago}", "cmd": cmd, "until": NOW - ago + 900} | keys
    return Earlier(message=message, created=NOW - ago, is_done=is_done)


def repeated(*commands: Earlier) -> list[dict[str, Any]]:
    """Return what is repeated of commands, each without its id and end."""
    return [
        {key: value for key, value in one.items() if key not in ("id", "until")} for one in to_repeat(commands, NOW)
    ]


def test_what_has_an_end_goes_on_to_that_end_and_what_has_passed_is_left_out() -> None:
    limit: dict[str, Any] = {"supply": "LOW", "import_limit_w": 5_000, "for_s": 1_800}
    assert repeated(earlier("supply", 600, **limit)) == [{"cmd": "supply", **limit, "for_s": 1_200}]
    assert repeated(earlier("supply", 1_800, **limit)) == []


def test_the_newest_command_of_a_setting_is_the_one_in_force() -> None:
    on: dict[str, Any] = {"state": "on", "for_s": 9_000}
    off: dict[str, Any] = {"state": "off"}
    assert repeated(earlier("reduce", 60, **off), earlier("reduce", 600, **on)) == [{"cmd": "reduce", "state": "off"}]
    both = earlier("sharing", 50, strategy="aces"), earlier("sharing", 90, strategy="spec", weights={"1": 3})
    assert repeated(*both) == [{"cmd": "sharing", "strategy": "aces"}, {"cmd": "sharing", "weights": {"1": 3}}]


def test_weights_of_a_later_date_leave_those_in_force() -> None:
    later = earlier("sharing", 50, weights={"1": 9}, from_time=NOW + 500)
    assert len(repeated(later, earlier("sharing", 90, weights={"1": 3}))) == 2


def test_what_is_still_being_sent_is_not_given_twice_and_no_switch_is_commanded() -> None:
    waits = earlier("reduce", 60, is_done=False, state="on", for_s=9_000)
    assert repeated(waits, earlier("reduce", 600, state="on", for_s=9_000)) == []
    assert repeated(earlier("isolate", 60, state="on", for_s=9_000), earlier("system_info", 5)) == []


def test_a_handover_gives_the_commands_in_force_again_to_whoever_manages_then(database: Database) -> None:
    message = {"v": 1, "id": "c1", "cmd": "reduce", "until": NOW + 900, "state": "on", "for_s": 9_000}
    given = OpenCommand(id="c1", controller="r001", message=json.dumps(message), until=NOW + 900)
    outcome = ControllerOutcome(id="c1", cmd="reduce", result="done", time=NOW)
    closing = CloseCommand(id="c1", controller="r001", state="done", outcome=outcome.pack().decode())

    def adopt(counter: int, how: str, now: int) -> list[OpenCommand]:
        made = Handover(
            microgrid="r001", epoch=(counter, 2), controller="r002", before="r001", how=how, why="for a test"
        )
        with database.writes.begin() as connection:
            save(connection, {}, [made], now)
            return open_commands(connection)

    with database.writes.begin() as connection:
        add_command(connection, given, NOW)
    Writer(database).commit([closing])
    assert adopt(2, RENEWED, NOW + 50) == []
    (again,) = adopt(3, GRANTED, NOW + 100)
    assert (again.controller, again.id) == ("r001", "c1-e3-2")
    command = ControllerCommand.model_validate_json(again.message)
    assert (command.id, command.state, command.for_s) == ("c1-e3-2", "on", 8_900)
    (still,) = adopt(4, GRANTED, NOW + 200)
    assert still == again, "it has not been answered: it goes to the next manager by itself"

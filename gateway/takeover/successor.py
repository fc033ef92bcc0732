"""What a controller that takes a microgrid over knows of it: the states that the utility set there (R12).

The manager tells them to the others of the clique whenever they change. Ends travel with the sender's time, so that
they last as long at a clock that differs.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from commonwatt.model.effects import Effect, Write
from commonwatt.model.time.now import Now
from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.clique_messages import MOST_STATES_BYTES
from commonwatt.protocol.controller_commands import Action, ControllerCommand
from gateway.changes import Change, Setting
from gateway.control.microgrid_states import ENDS, STATES_JSON, MicrogridStates, Sharing
from gateway.core import HostedMicrogrid


def carried(core: HostedMicrogrid) -> dict[str, Any]:
    """Return the states of a microgrid as JSON; weights that do not fit are left out, and the utility sends them."""
    states = core.modes.states
    if states.sharing_at(core.now) is None:
        in_force = Sharing(strategy=core.modes.strategy_of_file, from_time=0)
        states = replace(states, sharing=(in_force, *states.sharing))
    told = _told(core, states)
    return told if len(json.dumps(told)) <= MOST_STATES_BYTES else _told(core, replace(states, weighting=()))


def settings_of(core: HostedMicrogrid) -> object:
    """Return a value that is equal as long as ``carried`` returns the same."""
    states, periods = core.modes.states, core.utility_commands.tuned
    return states, states.sharing_at(core.now) is None, dict(periods), core.modes.meters_mode.commanded


def _told(core: HostedMicrogrid, states: MicrogridStates) -> dict[str, Any]:
    return {
        "states": STATES_JSON.dump_python(states, mode="json"),
        "periods": core.utility_commands.tuned,
        "meters": core.modes.meters_mode.commanded,
    }


def take(core: HostedMicrogrid, told: Mapping[str, Any], sent: EpochSeconds, now: Now) -> list[Effect[Change]]:
    """Keep the states that the manager told; the strategy of this controller's settings file is none of the utility's.

    Args:
        told: What ``carried`` returned at the manager.
        sent: The manager's time when it told them.

    Raises:
        ValueError: They are not what ``carried`` returns.
    """
    states = STATES_JSON.validate_python(told.get("states")).shift(now - sent, ENDS)
    # Judged as the command that sets them.
    schedule = ControllerCommand(
        id="", cmd=Action.SCHEDULE, until=0, periods=told.get("periods"), meters=told.get("meters")
    )
    own = Sharing(strategy=core.modes.strategy_of_file, from_time=0)
    core.modes.states = replace(states, sharing=tuple(one for one in states.sharing if one != own))
    core.utility_commands.tuned = {str(name): seconds for name, seconds in (schedule.periods or {}).items() if seconds}
    core.modes.meters_mode.commanded = schedule.meters
    return [
        *core.modes.states.kept(),
        Write(Setting("periods", json.dumps(core.utility_commands.tuned))),
        Write(Setting("meters_mode", schedule.meters or "")),
    ]

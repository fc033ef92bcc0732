"""What a controller that takes a microgrid over knows of it: states and spared places that the utility set (R12).

The manager tells them to the others of the clique whenever they change. Ends travel with the sender's time, so that
they last as long at a clock that differs.
"""

import json
from base64 import b85decode, b85encode
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from commonwatt.model.effects import Effect, Write
from commonwatt.model.time.now import Now
from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.clique_messages import MOST_STATES_BYTES
from commonwatt.protocol.controller_commands import Action, ControllerCommand
from gateway.changes import Change, Setting
from gateway.control.microgrid_states import ENDS, STATES_JSON, MicrogridStates, Sharing
from gateway.core import HostedMicrogrid


def carried(core: HostedMicrogrid) -> dict[str, Any]:
    """Return the states of a microgrid as JSON; what does not fit is left out, weights first: the utility sends it."""
    states = core.modes.states
    if states.sharing_at(core.now) is None:
        in_force = Sharing(strategy=core.modes.strategy_of_file, from_time=0)
        states = replace(states, sharing=(in_force, *states.sharing))
    told = _told(core, states)
    for less in (_told(core, replace(states, weighting=())), {"spared": None}):
        told |= less if len(json.dumps(told)) > MOST_STATES_BYTES else {}
    return told


def settings_of(core: HostedMicrogrid) -> object:
    """Return a value that is equal as long as ``carried`` returns the same."""
    states, periods = core.modes.states, core.utility_commands.tuned
    is_of_file = states.sharing_at(core.now) is None
    return states, is_of_file, dict(periods), core.modes.meters_mode.commanded, core.modes.spared


def _told(core: HostedMicrogrid, states: MicrogridStates) -> dict[str, Any]:
    return {
        "states": STATES_JSON.dump_python(states, mode="json"),
        "periods": core.utility_commands.tuned,
        "meters": core.modes.meters_mode.commanded,
        "spared": b85encode(np.array(sorted(core.modes.spared), ">u8").tobytes()).decode(),
    }


def take(core: HostedMicrogrid, told: Mapping[str, Any], sent: EpochSeconds, now: Now) -> list[Effect[Change]]:
    """Keep the states that the manager told; the strategy of this controller's settings file is none of the utility's.

    Args:
        told: What ``carried`` returned at the manager.
        sent: The manager's time when it told them.

    Raises:
        ValueError, TypeError: They are not what ``carried`` returns.
    """
    states = STATES_JSON.validate_python(told.get("states")).shift(now - sent, ENDS)
    # Judged as the command that sets them.
    schedule = ControllerCommand(
        id="", cmd=Action.SCHEDULE, until=0, periods=told.get("periods"), meters=told.get("meters")
    )
    spared = told.get("spared")  # `None`: they did not fit, or the manager's release does not tell them
    meters = None if spared is None else np.frombuffer(b85decode(spared), ">u8").tolist()
    own = Sharing(strategy=core.modes.strategy_of_file, from_time=0)
    core.modes.states = replace(states, sharing=tuple(one for one in states.sharing if one != own))
    core.utility_commands.tuned = {str(name): seconds for name, seconds in (schedule.periods or {}).items() if seconds}
    core.modes.meters_mode.commanded = schedule.meters
    return [
        *core.modes.states.kept(),
        Write(Setting("periods", json.dumps(core.utility_commands.tuned))),
        Write(Setting("meters_mode", schedule.meters or "")),
        *([] if meters is None else core.modes.spare(meters)),
    ]

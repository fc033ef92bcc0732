"""What a controller that takes a microgrid over knows of it: the states that the utility set there (R12).

The manager tells them to the others of the clique whenever they change. Ends travel with the sender's time, so that
they last as long at a clock that differs.
"""

import json
from dataclasses import replace

from commonwatt.model.effects import Effect, Write
from commonwatt.model.now import Now
from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.clique_messages import MOST_STATES_CHARS
from gateway.changes import Change, Setting
from gateway.control.microgrid_states import ENDS, MicrogridStates, Sharing, kept_states
from gateway.core import HostedMicrogrid

_PERIODS, _METERS = "periods", "meters"


def carried(core: HostedMicrogrid) -> str:
    """Return the states of a microgrid as text; weights that do not fit are left out, and the utility sends them."""
    states = core.modes.states
    if states.sharing_at(core.now) is None:
        in_force = Sharing(strategy=core.modes.strategy_of_file, from_time=0)
        states = replace(states, sharing=(in_force, *states.sharing))
    text = _text(core, states)
    return text if len(text) <= MOST_STATES_CHARS else _text(core, replace(states, weighting=()))


def _text(core: HostedMicrogrid, states: MicrogridStates) -> str:
    kept = {
        effect.change.key: effect.change.value
        for effect in states.kept()
        if isinstance(effect, Write) and isinstance(effect.change, Setting)
    }
    more = {_PERIODS: core.utility_commands.tuned, _METERS: core.modes.meters_mode.mode}
    return json.dumps(kept | more, separators=(",", ":"))


def take(core: HostedMicrogrid, text: str, sent: EpochSeconds, now: Now) -> list[Effect[Change]]:
    """Keep the states that the manager told; the strategy of this controller's settings file is none of the utility's.

    Args:
        text: What ``carried`` returned at the manager.
        sent: The manager's time when it told them.

    Raises:
        ValueError: The text is not what ``carried`` returns.
        KeyError: Likewise.
    """
    told = json.loads(text)
    states = kept_states(told.get).shift(now - sent, ENDS)
    own = Sharing(strategy=core.modes.strategy_of_file, from_time=0)
    core.modes.states = replace(states, sharing=tuple(one for one in states.sharing if one != own))
    core.utility_commands.tuned = {str(name): int(seconds) for name, seconds in told[_PERIODS].items()}
    core.modes.meters_mode.mode = "lossless" if told[_METERS] == "lossless" else "none"
    return [
        *core.modes.states.kept(),
        Write(Setting("periods", json.dumps(core.utility_commands.tuned))),
        Write(Setting("meters_mode", core.modes.meters_mode.mode)),
    ]

"""The phase of a microgrid as its store keeps it: in force after a restart until the boundary reports (C5)."""

import json
from dataclasses import asdict, dataclass

from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.commands import Epoch
from gateway.changes import Setting
from gateway.control.islanding import Phase

PHASE = "phase"  # setting that keeps the phase
ISLAND = frozenset({Phase.ISLANDED, Phase.RESYNCHRONISING})  # the phases of an island


@dataclass(frozen=True, kw_only=True)
class KeptPhase:
    """A phase in which this gateway managed its microgrid; which places were off is in the desired states."""

    phase: Phase  # the phase
    since: EpochSeconds | None  # when it began; ``None``: the clock was not trusted then
    epoch: Epoch  # the gateway's epoch: under another one, another controller may have managed the microgrid since
    closed: bool = False  # whether the switch was closed against the gateway's own command to open

    def kept(self) -> Setting:
        """Return the setting that keeps it."""
        return Setting(PHASE, json.dumps(asdict(self)))


def kept_phase(text: str | None) -> KeptPhase | None:
    """Return what ``KeptPhase.kept`` wrote; ``None``: nothing is stored."""
    if text is None:
        return None
    fields = json.loads(text)
    counter, rank = fields["epoch"]
    return KeptPhase(
        phase=Phase(fields["phase"]), since=fields["since"], epoch=(counter, rank), closed=fields.get("closed", False)
    )

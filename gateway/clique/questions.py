"""Asks meters which epoch they hold, and notes which of them are heard."""

from collections.abc import Iterable, Mapping

from commonwatt.cliques.warm import warm_meters
from commonwatt.model.effects import Publish
from commonwatt.model.ids import MeterId
from commonwatt.model.units import ControllerId, MicrogridId
from commonwatt.protocol.commands import Command
from commonwatt.protocol.topics import COMMANDS, meter_down
from commonwatt.town.registry import RegisteredMeter
from commonwatt.town.town import Function
from gateway.clique.hooks import Hooks
from gateway.takeover.effects import AskMeters
from gateway.takeover.hearing import Hearing
from gateway.takeover.member import Member


class Questions:
    """The meters of each microgrid that a controller may manage."""

    def __init__(self, own: ControllerId, meters: Mapping[MicrogridId, Mapping[MeterId, RegisteredMeter]]) -> None:
        self._own = own
        self._hearing = {name: Hearing(_warm(each)) for name, each in meters.items()}
        self._was_connected = False
        self._asked = 0

    def register(self, microgrid: MicrogridId, meters: Mapping[MeterId, RegisteredMeter]) -> None:
        """Replace the registry of a microgrid by a changed one."""
        self._hearing[microgrid].meters = frozenset(_warm(meters))

    def heard(self, microgrid: MicrogridId, meter: MeterId, now: float) -> None:
        """Note a message of a meter."""
        self._hearing[microgrid].heard(meter, now)

    def look(self, hooks: Hooks, members: Mapping[MicrogridId, Member], now: float) -> bool:
        """Set what each member can do, and ask the meters that are silent; return whether any was asked."""
        is_connected, before = hooks.is_connected(), self._asked
        if self._was_connected and not is_connected:
            for hearing in self._hearing.values():
                hearing.lost()
        self._was_connected = is_connected
        commits = hooks.commits(self._own)
        for name, member in members.items():
            hearing, manages = self._hearing[name], member.commands
            hearing.put_s = hooks.put_s(name)
            reached = hearing.reached(now, manages=manages)
            member.means.able = is_connected and hearing.is_enough(reached)
            member.means.connected = reached
            member.means.commits = commits and hooks.commits(name)
            if is_connected:
                self._ask(hooks, name, hearing.due(now, manages=manages), None)
        return self._asked > before

    def ask(self, hooks: Hooks, effect: AskMeters, meters: Iterable[MeterId]) -> None:
        """Ask some of a microgrid's meters, those that were heard last."""
        asked = self._hearing[effect.microgrid].nearest(list(meters), effect.count)
        self._ask(hooks, effect.microgrid, asked, effect.about)

    def _ask(self, hooks: Hooks, microgrid: MicrogridId, meters: Iterable[MeterId], about: ControllerId | None) -> None:
        """Ask meters which epoch they hold, and whether a controller still acknowledges."""
        for meter in meters:
            self._asked += 1
            question = Command(
                id=f"{self._own}-manager-{self._asked}",
                cmd="get",
                issuer=self._own,
                epoch=(0, 0),
                what="manager",
                about=about,
            )
            hooks.publish(Publish(meter_down(microgrid, meter, COMMANDS), question.pack(), qos=0))


def _warm(meters: Mapping[MeterId, RegisteredMeter]) -> tuple[MeterId, ...]:
    # The boundary's meters have this place's broker alone.
    inside = (m for m in meters.values() if not m.replaced and m.function is not Function.BOUNDARY)
    return warm_meters({meter.id: meter.battery_capacity_mwh is not None for meter in inside})

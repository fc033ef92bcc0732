"""Who manages each microgrid: the states of a controller, and what must hold (docs/controllers.md)."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from commonwatt.device.records import MeterLog
from commonwatt.model.units import ControllerId, MeterId, MicrogridId
from commonwatt.protocol.commands import EPOCH_STEP
from commonwatt.protocol.topics import UTILITY
from gateway.clique.member import MemberState
from harness.world.clique.part import NAMES
from utility.cliques.cliques import FIRST_S

if TYPE_CHECKING:
    from harness.world.clique.fleet import CliqueFleet
    from harness.world.clique.world import CliqueWorld

MEANINGS: dict[MemberState, str] = {
    MemberState.DOUBTS: "has an epoch and asks whether it is still the highest; commands nothing",
    MemberState.MANAGES: "commands the meters under its epoch",
    MemberState.STANDS_BY: "knows another manager, or none; watches, votes, and takes records",
    MemberState.CLAIMS: "asks the third member, or meters, whether the manager is lost",
    MemberState.YIELDS: "gave the microgrid up, and repeats that until the receiver answers, 10 s at most",
}
"""What a controller does in each state."""

TRANSITIONS: dict[tuple[MemberState, MemberState], str] = {
    (MemberState.DOUBTS, MemberState.MANAGES): "two meters, a peer or the utility know no higher epoch",
    (MemberState.DOUBTS, MemberState.STANDS_BY): "a higher epoch is known",
    (MemberState.MANAGES, MemberState.DOUBTS): "it was paused for more than 4 s",
    (MemberState.MANAGES, MemberState.STANDS_BY): "two meters report the same higher epoch, or the utility reports one",
    (MemberState.MANAGES, MemberState.YIELDS): "one that comes before it was steady for 60 s, and answers",
    (MemberState.YIELDS, MemberState.STANDS_BY): "the receiver answers, or 10 s are over",
    (MemberState.YIELDS, MemberState.DOUBTS): "its store did not take the receiver's epoch",
    (MemberState.STANDS_BY, MemberState.DOUBTS): "its store did not take the higher epoch",
    (MemberState.STANDS_BY, MemberState.CLAIMS): "the utility is not heard, and the manager's sign is late",
    (MemberState.STANDS_BY, MemberState.MANAGES): "a grant, a yield, or no other controller has it",
    (MemberState.CLAIMS, MemberState.MANAGES): "the manager is lost here and to those who were asked; or a grant",
    (MemberState.CLAIMS, MemberState.DOUBTS): "its store did not take the higher epoch",
    (MemberState.CLAIMS, MemberState.STANDS_BY): "another member sees the manager alive, or 15 s are over",
}
"""Which state may follow another one, and why."""


def manager(order: Iterable[ControllerId], able: Iterable[ControllerId]) -> ControllerId | None:
    """Return the manager of a microgrid in the steady state: the first able one in its order; ``None``: no one."""
    present = set(able)
    return next((name for name in order if name in present), None)


LOOK_S = 1.0  # seconds between two looks
MANAGED_WITHIN_S = 60.0  # seconds after the last change within which a microgrid that can be managed is
GRANTS_S = FIRST_S + 5.0  # seconds after its start within which the utility grants what has no manager
BEGINS_S = 120.0  # seconds until everybody knows everybody, and all meters have their manager
TOGETHER_S = 15.0  # seconds within which two managers are one again, where all lines work
MOVES_WITHIN_S = 200.0  # seconds until data was sent to each broker in turn, for 45 s each
MOST_COUNTER = 5 * EPOCH_STEP  # what a thief lifts counters to within a day: at each of four places by a step


class Watch:
    """Looks once a second; ``changed``: when the last fault began or ended, seconds."""

    def __init__(self, world: "CliqueWorld") -> None:
        self.world, self.changed = world, BEGINS_S
        self.utility_began = 0.0  # when the utility started last, seconds
        self._unmanaged: dict[MicrogridId, float] = {}
        self._alone: dict[MicrogridId, float] = {}
        self._under_way: dict[MeterId, tuple[int, float]] = {}  # the first record, and since when
        self._takes_since: dict[tuple[MeterId, ControllerId], float] = {}
        world.after(LOOK_S, self._look)

    def _look(self) -> None:
        world, now = self.world, self.world.monotonic
        if world.thieves:
            self.changed = now
        for microgrid in NAMES:
            strong = [name for name in self.managers(microgrid) if self.believing(microgrid, name) > 1]
            if len(strong) < 2 or not self._is_whole():
                self._alone[microgrid] = now
            if now - self._alone.get(microgrid, 0.0) > TOGETHER_S:
                world.fail(f"I-c: {strong} manage {microgrid} together for {TOGETHER_S:.0f} s")
            able = [name for name in NAMES if self.is_able(name, microgrid)]
            if not able or self.managed(microgrid) is not None:
                self._unmanaged[microgrid] = now
            elif (since := now - max(self._counts_from(), self._unmanaged.get(microgrid, 0.0))) > MANAGED_WITHIN_S:
                found = {name: self.believing(microgrid, name) for name in self.managers(microgrid)}
                could = ", ".join(able)
                world.fail(f"I-d: {microgrid} is not managed for {since:.0f} s; {could} could; obeyed: {found}")
        for fleet in world.fleets.values():
            for meter, core in fleet.meters.items():
                self._look_at_records(fleet, meter, core.history, now)
        if (most := max(self._counters(), default=0)) > MOST_COUNTER:
            world.fail(f"I-h: one member's word lifted a counter to {most}")
        if world.monotonic < world.measure_until - world.start:
            world.after(LOOK_S, self._look)

    def _counts_from(self) -> float:
        """Return the last change: a new utility waits for the first heartbeat of a manager that sends no beats."""
        return max(self.changed, self.utility_began + GRANTS_S - MANAGED_WITHIN_S)

    def _look_at_records(self, fleet: "CliqueFleet", meter: MeterId, log: MeterLog, now: float) -> None:
        """Check that records under way come to a controller of the meter's order, if one takes them all the time."""
        of = fleet.sessions[meter].brokers
        # A controller with a full disk refuses, which is an answer: the meter waits for it.
        on = fleet.up and meter not in fleet.off and not self.world.gateways[of.data].disk.full
        if not on or not log.frozen or self._under_way.get(meter, (0, now))[0] != log.first_id:
            self._under_way[meter] = log.first_id, now
        for name in NAMES:
            gateway, link = self.world.gateways[name], fleet.link_to(meter, name)
            takes = gateway.runs and not gateway.asleep and not gateway.disk.full
            lines = (link, gateway.local)
            if not takes or name not in of.order or not all(line.connected and not line.cut for line in lines):
                self._takes_since[meter, name] = now
            since = max(self._under_way[meter][1], self._takes_since.get((meter, name), now))
            if now - since > MOVES_WITHIN_S:
                self.world.fail(f"I6: meter {meter} has not sent its records to {name} for {now - since:.0f} s")

    def _is_whole(self) -> bool:
        """Return whether all lines work, and all meters are reached."""
        reached = (fleet.reached(name) == len(fleet.meters) for fleet in self.world.fleets.values() for name in NAMES)
        return not self.world.cut and all(reached)

    def managers(self, microgrid: MicrogridId) -> list[ControllerId]:
        """Return which controllers believe to manage a microgrid."""
        return [name for name, gateway in self.world.gateways.items() if gateway.manages(microgrid)]

    def believing(self, microgrid: MicrogridId, name: ControllerId) -> int:
        """Return how many meters obey a controller that believes to manage, or since a thief's visit none."""
        member = self.world.gateways[name].part.members[microgrid]
        meters = self.world.fleets[microgrid].meters.items()
        return sum(
            number in self.world.spoilt or core.desired_states.epoch == member.epoch_for(number)
            for number, core in meters
        )

    def managed(self, microgrid: MicrogridId) -> ControllerId | None:
        """Return which controller manages a microgrid in truth: able to, as it sees it, and believed by most meters.

        One that lost its meters may need minutes to see it.
        """
        for name in self.managers(microgrid):
            means, reaches = self.world.gateways[name].part.members[microgrid].means, self._reaches(name, microgrid)
            believed = self.believing(microgrid, name) * 3 >= len(self.world.fleets[microgrid].meters) * 2
            if means and (believed or not reaches):
                return name
        return None

    def is_able(self, name: ControllerId, microgrid: MicrogridId) -> bool:
        """Return whether a controller could command a microgrid, and sees it."""
        gateway = self.world.gateways[name]
        sees_it = gateway.runs and not gateway.asleep and bool(gateway.part.members[microgrid].means)
        return sees_it and self._reaches(name, microgrid)

    def _reaches(self, name: ControllerId, microgrid: MicrogridId) -> bool:
        fleet = self.world.fleets[microgrid]
        return fleet.reached(name) * 3 >= len(fleet.meters) * 2

    def _counters(self) -> Iterator[int]:
        """Yield the counters that honest controllers and the utility know."""
        for gateway in self.world.gateways.values():
            if gateway.up:
                yield from (member.kept.highest[0] for member in gateway.part.members.values())
        if self.world.utility.up:
            for grants in self.world.utility.part.groups._grants:
                yield from (max(each.seen[0], each.top) for each in grants.granted.values())

    def end(self) -> None:
        """Check that after all faults each microgrid has one manager, and each controller hears the utility."""
        now = self.world.monotonic
        for name, gateway in self.world.gateways.items():
            if not gateway.part.takeover.signs.lines[UTILITY].alive(now):
                self.world.fail(f"I-d: {name} does not hear the utility at the end")
        for microgrid in NAMES:
            found = self.managers(microgrid)
            if self.managed(microgrid) is None or len(found) > 1:
                self.world.fail(f"I-d: {microgrid} has the managers {found} at the end")

"""The batteries of a microgrid for people: levels against minima, and why each shares or not; pure."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from commonwatt.model.ids import MeterId
from commonwatt.model.units import EpochSeconds, MicrogridId, MilliwattHours
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.sharing_words import BatteryWords, Reason, reason_of_code, summary_of
from utility.overview.microgrids import Facts


@dataclass(frozen=True, kw_only=True)
class BatteryFacts:
    """What the utility knows of a battery."""

    meter: MeterId  # its meter's id
    place: str  # its place
    capacity: MilliwattHours  # milliwatt-hours
    minimum_percent: int | None  # the minimum that its meter reported, or else the town file's; ``None``: neither
    # The level on which its gateway decided, or else the last among the readings; ``None``: neither of the last hours.
    level: MilliwattHours | None = None
    level_time: EpochSeconds | None = None  # when

    @property
    def minimum(self) -> MilliwattHours | None:
        """The minimum; rounded up, as gateways do."""
        return None if self.minimum_percent is None else -(-self.capacity * self.minimum_percent // 100)

    @property
    def distance(self) -> float | None:
        """How far its level is above its minimum, as a part of its capacity; ``None``: it is not known."""
        if self.level is None or self.minimum is None:
            return None
        return (self.level - self.minimum) / self.capacity


@dataclass(frozen=True, kw_only=True)
class BatteryLine:
    """A battery on the page of its microgrid."""

    facts: BatteryFacts  # what is known of it
    words: BatteryWords  # its role and the reason


def battery_lines(batteries: Iterable[BatteryFacts], heartbeat: Heartbeat | None) -> list[BatteryLine]:
    """Return the batteries with their gateway's reasons: the nearest to its minimum first, unknown ones last.

    A level on which the gateway decided takes the place of the last one among the readings.
    """
    decided = [_decided(each, heartbeat) for each in batteries]
    found = [BatteryLine(facts=each, words=_words(each, heartbeat)) for each in decided]
    return sorted(found, key=lambda each: (each.facts.distance is None, each.facts.distance or 0, each.facts.meter))


def sharing_summary(lines: Iterable[BatteryLine], heartbeat: Heartbeat | None) -> str:
    """Return in a sentence or two which batteries share, and why."""
    found = [each.words for each in lines]
    if found and (heartbeat is None or not heartbeat.sharing):
        return "Its gateway has not said why its batteries share or not; one of an earlier version never does."
    return summary_of(found)


def _decided(battery: BatteryFacts, heartbeat: Heartbeat | None) -> BatteryFacts:
    """Return a battery with the level on which its gateway decided, if it said one."""
    said = {} if heartbeat is None else dict(zip(heartbeat.sharing, heartbeat.levels, strict=False))
    level = said.get(battery.meter)
    if heartbeat is None or level is None:
        return battery
    return replace(battery, level=level * battery.capacity // 1000, level_time=heartbeat.time)


def _words(battery: BatteryFacts, heartbeat: Heartbeat | None) -> BatteryWords:
    reason = Reason("out", "Its gateway has not said.")
    if heartbeat is not None and (code := heartbeat.sharing.get(battery.meter)) is not None:
        reason = reason_of_code(code, heartbeat.band_permille)
    return BatteryWords(
        meter=str(battery.meter),
        place=battery.place,
        role=reason.role,
        why=reason.why,
        level=battery.level,
        minimum=battery.minimum,
        capacity=battery.capacity,
    )


def helping(facts: Iterable[Facts]) -> list[tuple[MicrogridId, int, int]]:
    """Return the microgrids with batteries that need help now: the name, how many give it, and how many need it."""
    found = []
    for one in facts:
        said = one.heartbeat
        roles = (
            [] if said is None else [reason_of_code(each, said.band_permille).role for each in said.sharing.values()]
        )
        if "receives" in roles:
            found.append((one.microgrid, roles.count("gives"), roles.count("receives")))
    return found

"""The boundary switch of one microgrid: when it opens, and when it may close again (C5, docs/islanding.md).

The boundary sensor reports two facts: whether the town's side has voltage, and whether the switch is open. The switch
trips by itself when the voltage is lost, with or without a controller. It *must* be open while there is no voltage, and
while a command isolates the microgrid. The phase follows from these facts alone, and is not known without a report:

| | switch closed | switch open |
|---|---|---|
| may be closed | connected | resynchronising |
| must be open | isolating | islanded |

Closing is the dangerous step. No command, no command's end and no restart closes the switch before the voltage was
stable for ``stable_s``, observed without a gap; an excursion begins the wait again. After it each microgrid waits its
own delay, so that not all load returns at once. Each boundary meter is observed by itself: the report of one without
voltage opens the switch, and closing it needs all of them.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

from commonwatt.model.units import EpochSeconds, MeterId
from commonwatt.protocol.commands import Epoch
from gateway.store.changes import Setting

REPORT_GOOD_FOR_S = 60  # a gap of more seconds between two reports may hide an excursion: the wait begins again
# Voltages of the town's side at which the switch may close, per mille of the nominal one (IEEE 1547.1).
CLOSING_PERMILLE = range(917, 1051)
CLOSING_MILLIHERTZ = range(59_500, 60_101)  # frequencies of the town's side at which the switch may close (IEEE 1547.1)


def may_close_at(voltage_permille: int | None, frequency_millihertz: int | None) -> bool:
    """Return whether a reported voltage and frequency allow to close the switch; ``None``: the meter has no figure."""
    voltage_good = voltage_permille is None or voltage_permille in CLOSING_PERMILLE
    return voltage_good and (frequency_millihertz is None or frequency_millihertz in CLOSING_MILLIHERTZ)


class Phase(StrEnum):
    """The phase of a microgrid's connection to the town."""

    CONNECTED = "connected"
    ISOLATING = "isolating"
    ISLANDED = "islanded"
    RESYNCHRONISING = "resynchronising"


_PHASES = {
    (False, False): Phase.CONNECTED,
    (True, False): Phase.ISOLATING,
    (True, True): Phase.ISLANDED,
    (False, True): Phase.RESYNCHRONISING,
}
"""By (must be open, is open)."""


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """A report of the boundary sensor."""

    voltage: bool  # whether the town's side has voltage
    is_open: bool  # whether the switch is open
    heard: EpochSeconds  # when the report came
    good: bool = True  # whether the reported voltage and frequency allow to close; true without such figures


@dataclass(frozen=True, kw_only=True)
class ObservedBoundary:
    """What one boundary meter, or all of them together, observed since the start."""

    sensor: Sensor | None = None  # the last report; ``None``: none yet
    # Since when the voltage has been observed without an excursion; ``None``: it is not.
    stable_since: EpochSeconds | None = None
    agreed: bool = True  # whether all boundary meters that reported have the switch at the same position

    def observe(self, sensor: Sensor) -> "ObservedBoundary":
        """Return what was observed with one more report; an older report than the last changes nothing."""
        before = self.sensor
        if before is not None and sensor.heard < before.heard:
            return self
        if not (sensor.voltage and sensor.good):
            return ObservedBoundary(sensor=sensor)
        is_gapless = before is not None and before.voltage and sensor.heard - before.heard <= REPORT_GOOD_FOR_S
        since = self.stable_since if is_gapless and self.stable_since is not None else sensor.heard
        return ObservedBoundary(sensor=sensor, stable_since=since)

    def shift(self, by_s: int) -> "ObservedBoundary":
        """Return the same observations after the time was set by ``by_s``."""
        if self.sensor is None:
            return self
        sensor = replace(self.sensor, heard=self.sensor.heard + by_s)
        return ObservedBoundary(
            sensor=sensor, stable_since=None if self.stable_since is None else self.stable_since + by_s
        )


def together(boundaries: Collection[ObservedBoundary]) -> ObservedBoundary:
    """Return what all boundary meters observed together: there is voltage if all report it, for as long as all did.

    The switch is open if one meter reports so. While one meter has not reported, no voltage is stable.
    """
    sensors = [boundary.sensor for boundary in boundaries if boundary.sensor is not None]
    if not sensors:
        return ObservedBoundary()
    stable = [boundary.stable_since for boundary in boundaries if boundary.stable_since is not None]
    sensor = Sensor(
        voltage=all(sensor.voltage for sensor in sensors),
        is_open=any(sensor.is_open for sensor in sensors),
        heard=min(sensor.heard for sensor in sensors),
        good=all(sensor.good for sensor in sensors),
    )
    return ObservedBoundary(
        sensor=sensor,
        stable_since=max(stable) if len(stable) == len(boundaries) else None,
        agreed=len({sensor.is_open for sensor in sensors}) == 1,
    )


def disagreement(boundaries: Mapping[MeterId, ObservedBoundary]) -> str | None:
    """Return in words what the boundary meters report, if they differ; ``None``: they agree."""
    reports = {meter: _words(boundary.sensor) for meter, boundary in boundaries.items() if boundary.sensor is not None}
    if len(set(reports.values())) < 2:
        return None
    return "; ".join(f"meter {meter} reports {words}" for meter, words in reports.items())


def _words(sensor: Sensor) -> str:
    return f"{'' if sensor.voltage else 'no '}voltage and {'an open' if sensor.is_open else 'a closed'} switch"


@dataclass(frozen=True, kw_only=True)
class SwitchWish:
    """What the manager wants of the boundary switch."""

    phase: Phase | None  # the phase; ``None``: unknown, since no boundary meter has reported
    is_open: bool | None  # whether the switch shall be open; ``None``: nothing is commanded, the switch stays as it is
    reason: str  # why, for people


def wish(
    boundary: ObservedBoundary,
    now: EpochSeconds,
    *,
    commanded: bool,
    isolated: bool,
    stable_s: int,
    delay_s: int,
    released: bool = False,
) -> SwitchWish:
    """Return what the manager wants of the switch.

    Args:
        boundary: What was observed, by all boundary meters together.
        commanded: Whether a command isolates the microgrid now.
        isolated: Whether the manager's own command to open the switch is in force: a report of a closed switch is then
            older than that command, and ends no wait.
        stable_s: Seconds of stable voltage before the switch may close.
        delay_s: The microgrid's own delay after that, seconds.
        released: Whether the manager has commanded the switch to close in this phase. Then only the loss of voltage or
            a command opens it again: a report that is old or late may still say that the switch is open.
    """
    sensor = boundary.sensor
    if sensor is None:
        return SwitchWish(phase=None, is_open=None, reason="the boundary sensor has not reported yet")
    must_open = commanded or not sensor.voltage
    phase = _PHASES[must_open, sensor.is_open or (isolated and not must_open)]
    if must_open:
        why = "a command isolates the microgrid" if sensor.voltage else "the town's side has no voltage"
        return SwitchWish(phase=phase, is_open=True, reason=why)
    if phase is Phase.CONNECTED:
        return SwitchWish(phase=phase, is_open=False, reason="the town's side has voltage")
    # A switch that is closed against the command stays as it is: the report may be late, or the command of the past.
    # One meter reports the closed switch before the other: the command to close stays in force.
    # Without a recent report a command to open is renewed, and none that has ended is given again: the switch may have
    # closed since.
    is_silent = now - sensor.heard > REPORT_GOOD_FOR_S
    stays = True if sensor.is_open and not released and (isolated or (boundary.agreed and not is_silent)) else None
    if not boundary.agreed:
        return SwitchWish(phase=phase, is_open=stays, reason="the boundary meters disagree about the switch")
    if not sensor.good:
        return SwitchWish(phase=phase, is_open=stays, reason="the voltage or the frequency does not allow to close yet")
    if is_silent or boundary.stable_since is None:
        return SwitchWish(
            phase=phase, is_open=stays, reason="the boundary sensor is silent: the voltage may be unstable"
        )
    left_s = boundary.stable_since + stable_s + delay_s - now
    if left_s > 0:
        return SwitchWish(
            phase=phase, is_open=stays, reason=f"the voltage is back; the switch closes in {left_s} s if it stays"
        )
    return SwitchWish(phase=phase, is_open=False, reason="the voltage is stable: the switch closes")


def contradiction(boundary: ObservedBoundary, notice: bool | None) -> str | None:
    """Return in words how the utility's notice contradicts the sensor, which is right; ``None``: it does not.

    Args:
        boundary: What was observed.
        notice: Whether the utility says that power is lost; ``None``: no notice is in force.
    """
    if notice is None or boundary.sensor is None or notice is not boundary.sensor.voltage:
        return None
    said, seen = ("lost", "has voltage") if notice else ("back", "has no voltage")
    return f"the utility says that power is {said}, but the boundary sensor {seen}; the sensor is right"


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

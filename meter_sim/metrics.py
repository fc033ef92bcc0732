"""A fleet's metrics for Prometheus, read from the meters at each scrape; no metric has a meter as its label."""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.core import Metric

from commonwatt.model.control.supply import SupplyState
from commonwatt.model.ids import MeterId
from commonwatt.model.units import EpochSeconds, MilliwattHours
from commonwatt.runtime.metric_families import TallyCollector, counters, gauges, tally_counters


@dataclass(frozen=True, kw_only=True)
class Figures:
    """A fleet's figures at one moment."""

    time: EpochSeconds  # time on the fleet's clock
    lag_s: float = 0.0  # delay of the newest slot behind that clock
    meters: int = 0  # emulated meters
    connected: int = 0  # emulated meters with a connection to the broker
    made: int = 0  # readings ever recorded, one for each slot and type
    acknowledged: int = 0  # readings that the gateway has acknowledged
    events_made: int = 0  # state events ever recorded
    events_held: int = 0  # state events not acknowledged yet
    gaps: int = 0  # slots not recorded because a log was full
    dark: bool = False  # whether no place of the microgrid, nor the town's line, has had voltage for 48 hours (T9)
    sharing: tuple[MeterId, ...] = ()  # ids of the meters whose battery has the command to share
    dropped: int = 0  # messages dropped without a connection or with a full queue; their senders send them again
    retained: int = 0  # retained messages ignored
    without_broker: int = 0  # meters that keep their readings, since all their brokers are of revoked controllers

    @property
    def held(self) -> int:
        """Readings recorded and not acknowledged yet."""
        return self.made - self.acknowledged


@dataclass(frozen=True, kw_only=True)
class Power:
    """The mean power in the last slot, watts."""

    load_w: int = 0  # load that was met
    sun_w: int = 0  # sun that was used or exported
    import_w: int = 0  # what came from the town; negative: what went to it


@dataclass(frozen=True, kw_only=True)
class PlantFigures:
    """The plant at one moment."""

    level: MilliwattHours  # level of its battery, milliwatt-hours
    capacity: MilliwattHours  # the battery's capacity
    battery_w: int  # power into the battery in the last slot; negative: out of it
    bought_w: int  # power from the regional grid in the last slot; negative: sold
    price_permille: int  # the regional price, thousandths of the price outside peak hours
    supply: SupplyState  # the state of the regional supply
    voltage: bool  # whether the line to the regional grid has voltage
    connected: bool  # whether the head-end has accepted its connection


@dataclass(frozen=True, kw_only=True)
class TownFigures:
    """The figures of all microgrids of a fleet at one moment."""

    time: EpochSeconds  # time on the fleet's clock
    lag_s: float  # delay of the newest slot of the world behind that clock
    microgrids: int  # microgrids of the fleet
    closed: int  # of these, microgrids whose store can't be opened
    power: Power  # sum of their power
    sun_percent: float = 0.0  # full sun that reaches the panels
    plant: PlantFigures | None = None  # the plant; ``None``: there is none


_TALLIED = (
    ("put", "puts", "Batches sent, for the first time or again.", "try"),
    ("ack", "acks", "Acknowledgements, by result.", "result"),
    ("command", "commands", "Commands, by result.", "result"),
    ("failure", "failures", "Meters that failed and recovered.", "step"),
    ("relief", "reliefs", "Consolidations by meters whose log is nearly full.", "result"),
    ("clock", "clocks", "Clock settings of meters from their gateway's time.", "result"),
    ("commit", "commits", "Commits tried again because the store could not be written.", "result"),
    ("slot", "waiting_slots", "Slots that waited for the store for a day, and are lost.", "result"),
)


class FleetMetrics(TallyCollector[Figures]):
    """A fleet's figures and event counts as metrics."""

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        now = self.figures()
        yield from gauges(
            "commonwatt",
            (
                ("meters", "Meters emulated.", now.meters),
                ("meters_connected", "Meters connected to the broker.", now.connected),
                ("meters_lag_seconds", "Delay of the newest slot behind the clock, seconds of that clock.", now.lag_s),
                ("meters_readings_held", "Readings recorded and not acknowledged yet.", now.held),
                ("meters_events_held", "State events recorded and not acknowledged yet.", now.events_held),
                ("meters_without_broker", "Meters whose brokers are all of revoked controllers.", now.without_broker),
                ("meters_sharing", "Meters whose battery has the command to share.", len(now.sharing)),
            ),
        )
        yield from counters(
            "commonwatt_meters",
            (
                ("readings_made", "Readings recorded, one for each slot and type.", now.made),
                ("readings_acknowledged", "Readings the gateway acknowledged.", now.acknowledged),
                ("events_made", "State events recorded.", now.events_made),
                ("slots_not_recorded", "Slots not recorded because a log was full.", now.gaps),
                ("messages_dropped", "Messages dropped; their senders send them again.", now.dropped),
                ("retained_messages", "Retained messages, ignored.", now.retained),
            ),
        )
        yield from tally_counters("commonwatt_meters", self.tally, _TALLIED)


class TownMetrics(TallyCollector[TownFigures]):
    """The figures of a fleet of several microgrids as metrics; each microgrid's own are at its own address."""

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        now = self.figures()
        yield from gauges(
            "commonwatt_meters_town",
            (
                ("microgrids", "Microgrids whose meters are emulated.", now.microgrids),
                ("closed_stores", "Of these, microgrids whose store can't be opened.", now.closed),
                ("lag_seconds", "Delay of the newest slot of the physics, seconds of its clock.", now.lag_s),
                ("load_watts", "Load met in the last slot.", now.power.load_w),
                ("sun_watts", "Sun used or exported in the last slot.", now.power.sun_w),
                ("import_watts", "What the microgrids took in the last slot; negative: gave.", now.power.import_w),
            ),
        )
        plant = now.plant
        if plant is None:
            return
        yield from gauges(
            "commonwatt_meters_plant",
            (
                ("level_ratio", "Level of the plant's battery, 0 to 1.", plant.level / (plant.capacity or 1)),
                ("battery_watts", "Power into the battery in the last slot; negative: out of it.", plant.battery_w),
                ("bought_watts", "Power from the regional grid in the last slot; negative: sold.", plant.bought_w),
                ("price_permille", "Regional price, thousandths of that outside peak hours.", plant.price_permille),
                ("supply", "State of the regional supply: 0 NORMAL to 3 EMPTY.", list(SupplyState).index(plant.supply)),
                ("line_voltage", "Whether the line to the regional grid has voltage: 1 or 0.", plant.voltage),
                ("connected", "Whether the plant is connected to the head-end: 1 or 0.", plant.connected),
            ),
        )

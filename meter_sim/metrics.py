"""A fleet's metrics for Prometheus, read from the meters at each scrape; no metric has a meter as its label."""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.core import Metric

from commonwatt.model.ids import MeterId
from commonwatt.model.supply import SupplyState
from commonwatt.model.units import EpochSeconds, MilliwattHours
from commonwatt.runtime.metric_families import TallyCollector, counters, gauges, tally_counters


@dataclass(frozen=True, kw_only=True)
class Figures:
    """A fleet's figures at one moment.

    Attributes:
        time: Time on the fleet's clock.
        lag_s: Delay of the newest slot behind that clock.
        meters: Emulated meters.
        connected: Emulated meters with a connection to the broker.
        made: Readings ever recorded, one for each slot and type.
        acknowledged: Readings that the gateway has acknowledged.
        events_made: State events ever recorded.
        events_held: State events not acknowledged yet.
        gaps: Slots not recorded because a log was full.
        sharing: Ids of the meters whose battery has the command to share.
        dropped: Messages dropped without a connection or with a full queue; their senders send them again.
        retained: Retained messages ignored.
        dark: Whether no place of the microgrid, nor the town's line, has had voltage for 48 hours (T9).
    """

    time: EpochSeconds
    lag_s: float = 0.0
    meters: int = 0
    connected: int = 0
    made: int = 0
    acknowledged: int = 0
    events_made: int = 0
    events_held: int = 0
    gaps: int = 0
    dark: bool = False
    sharing: tuple[MeterId, ...] = ()
    dropped: int = 0
    retained: int = 0

    @property
    def held(self) -> int:
        """Readings recorded and not acknowledged yet."""
        return self.made - self.acknowledged


@dataclass(frozen=True, kw_only=True)
class Power:
    """The mean power in the last slot, watts.

    Attributes:
        load_w: Load that was met.
        sun_w: Sun that was used or exported.
        import_w: What came from the town; negative: what went to it.
    """

    load_w: int = 0
    sun_w: int = 0
    import_w: int = 0


@dataclass(frozen=True, kw_only=True)
class PlantFigures:
    """The plant at one moment.

    Attributes:
        level: Level of its battery, milliwatt-hours.
        capacity: The battery's capacity.
        battery_w: Power into the battery in the last slot; negative: out of it.
        bought_w: Power from the regional grid in the last slot; negative: sold.
        price_permille: The regional price, thousandths of the price outside peak hours.
        supply: The state of the regional supply.
        voltage: Whether the line to the regional grid has voltage.
        connected: Whether the head-end has accepted its connection.
    """

    level: MilliwattHours
    capacity: MilliwattHours
    battery_w: int
    bought_w: int
    price_permille: int
    supply: SupplyState
    voltage: bool
    connected: bool


@dataclass(frozen=True, kw_only=True)
class TownFigures:
    """The figures of all microgrids of a fleet at one moment.

    Attributes:
        time: Time on the fleet's clock.
        lag_s: Delay of the newest slot of the world behind that clock.
        microgrids: Microgrids of the fleet.
        closed: Of these, microgrids whose store can't be opened.
        power: Sum of their power.
        sun_percent: Full sun that reaches the panels.
        plant: The plant; ``None``: there is none.
    """

    time: EpochSeconds
    lag_s: float
    microgrids: int
    closed: int
    power: Power
    sun_percent: float = 0.0
    plant: PlantFigures | None = None


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

"""A fleet's metrics for Prometheus, read from the meters at each scrape; no metric has a meter as its label."""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.metrics_core import Metric

from commonwatt.model.control import SupplyState
from commonwatt.model.units import EpochSeconds, MeterId, MilliwattHours
from commonwatt.runtime.metric_families import MetricRow, Tally, counter, families, gauge, tallied


@dataclass(frozen=True, kw_only=True)
class FleetFigures:
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
class SlotPower:
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
    power: SlotPower  # sum of their power
    sun_percent: float = 0.0  # full sun that reaches the panels
    plant: PlantFigures | None = None  # the plant; ``None``: there is none


ROWS: tuple[MetricRow[FleetFigures], ...] = (
    gauge("meters", "Meters emulated.", lambda f: f.meters),
    gauge("meters_connected", "Meters connected to the broker.", lambda f: f.connected),
    gauge("meters_lag_seconds", "Delay of the newest slot behind the clock, seconds of that clock.", lambda f: f.lag_s),
    gauge("meters_readings_held", "Readings recorded and not acknowledged yet.", lambda f: f.held),
    gauge("meters_events_held", "State events recorded and not acknowledged yet.", lambda f: f.events_held),
    gauge("meters_without_broker", "Meters whose brokers are all of revoked controllers.", lambda f: f.without_broker),
    gauge("meters_sharing", "Meters whose battery has the command to share.", lambda f: len(f.sharing)),
    counter("meters_readings_made", "Readings recorded, one for each slot and type.", lambda f: f.made),
    counter("meters_readings_acknowledged", "Readings the gateway acknowledged.", lambda f: f.acknowledged),
    counter("meters_events_made", "State events recorded.", lambda f: f.events_made),
    counter("meters_slots_not_recorded", "Slots not recorded because a log was full.", lambda f: f.gaps),
    counter("meters_messages_dropped", "Messages dropped; their senders send them again.", lambda f: f.dropped),
    counter("meters_retained_messages", "Retained messages, ignored.", lambda f: f.retained),
)  # fmt: skip

TALLIED = (
    tallied("put", "meters_puts", "Batches sent, for the first time or again.", "try"),
    tallied("ack", "meters_acks", "Acknowledgements, by result.", "result"),
    tallied("command", "meters_commands", "Commands, by result.", "result"),
    tallied("failure", "meters_failures", "Meters that failed and recovered.", "step"),
    tallied("relief", "meters_reliefs", "Consolidations by meters whose log is nearly full.", "result"),
    tallied("clock", "meters_clocks", "Clock settings of meters from their gateway's time.", "result"),
    tallied("commit", "meters_commits", "Commits tried again because the store could not be written.", "result"),
    tallied("slot", "meters_waiting_slots", "Slots that waited for the store for a day, and are lost.", "result"),
)  # fmt: skip
TOWN_ROWS: tuple[MetricRow[TownFigures], ...] = (
    gauge("microgrids", "Microgrids whose meters are emulated.", lambda f: f.microgrids),
    gauge("closed_stores", "Of these, microgrids whose store can't be opened.", lambda f: f.closed),
    gauge("lag_seconds", "Delay of the newest slot of the physics, seconds of its clock.", lambda f: f.lag_s),
    gauge("load_watts", "Load met in the last slot.", lambda f: f.power.load_w),
    gauge("sun_watts", "Sun used or exported in the last slot.", lambda f: f.power.sun_w),
    gauge("import_watts", "What the microgrids took in the last slot; negative: gave.", lambda f: f.power.import_w),
)  # fmt: skip
PLANT_ROWS: tuple[MetricRow[PlantFigures], ...] = (
    gauge("level_ratio", "Level of the plant's battery, 0 to 1.", lambda f: f.level / (f.capacity or 1)),
    gauge("battery_watts", "Power into the battery in the last slot; negative: out of it.", lambda f: f.battery_w),
    gauge("bought_watts", "Power from the regional grid in the last slot; negative: sold.", lambda f: f.bought_w),
    gauge("price_permille", "Regional price, thousandths of that outside peak hours.", lambda f: f.price_permille),
    gauge("supply", "State of the regional supply: 0 NORMAL to 3 EMPTY.", lambda f: list(SupplyState).index(f.supply)),
    gauge("line_voltage", "Whether the line to the regional grid has voltage: 1 or 0.", lambda f: f.voltage),
    gauge("connected", "Whether the plant is connected to the head-end: 1 or 0.", lambda f: f.connected),
)  # fmt: skip


def fleet_metrics(figures: FleetFigures, tally: Tally) -> Iterator[Metric]:
    """Yield the metrics of a fleet of one microgrid."""
    yield from families("commonwatt", ROWS, figures)
    yield from families("commonwatt", TALLIED, tally)


def town_metrics(figures: TownFigures) -> Iterator[Metric]:
    """Yield the metrics of a fleet of several microgrids; each microgrid's own are at its own address."""
    yield from families("commonwatt_meters_town", TOWN_ROWS, figures)
    if figures.plant is not None:
        yield from families("commonwatt_meters_plant", PLANT_ROWS, figures.plant)

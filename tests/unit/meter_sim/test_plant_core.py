"""The emulated plant's core: purchases once, counted over restarts; reports."""

from commonwatt.energy.plant import run_plant
from commonwatt.model.control import SupplyState
from commonwatt.model.units import QUARTER_S, SLOT_S, SLOTS
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.plant_messages import PlantCommand, PlantOutcome, PlantQuarter, PlantReport
from harness.surroundings.fleet import CAPACITY, LOAD, PHYSICAL, PlantHost
from meter_sim.store import load

QUARTER = 1_988_889
START = QUARTER * QUARTER_S


class Host(PlantHost):
    """A plant that gets purchases from a test."""

    def __init__(self) -> None:
        super().__init__(dear_from=START + QUARTER_S)

    def tell(self, now: int = START + 20, **keys: object) -> PlantOutcome:
        command = {"id": "p1", "cmd": "purchase", "until": START + QUARTER_S, "quarter": QUARTER, "energy_mwh": 300_000}
        self.do(self.core.receive(PlantCommand.model_validate(command | keys).pack(), now))
        return unpack_json(PlantOutcome, self.sent[-1].payload)


def test_a_purchase_is_bought_in_its_quarter_and_no_more_after_it() -> None:  # req: U4
    host = Host()
    host.slots(START, START + 5 * SLOT_S)
    assert host.bought == 0
    assert host.tell().result == "done"
    host.slots(START + 5 * SLOT_S, START + 2 * QUARTER_S)
    assert host.bought == 300_000
    rows = load(host.file)[1]
    assert [(row.quarter, row.ordered) for row in rows] == [(QUARTER, 300_000), (QUARTER + 1, 0)]
    assert rows[0].slots == SLOTS
    assert rows[0].net == SLOTS * LOAD.wanted
    assert rows[0].level == CAPACITY // 2 + 300_000 - SLOTS * LOAD.wanted


def test_a_plant_killed_at_any_moment_buys_neither_more_nor_less() -> None:
    for killed in range(0, SLOTS, 7):
        host = Host()
        host.tell(now=START)
        for slot in range(SLOTS):
            if slot == killed:
                # Made, but not committed: lost with the process.
                at = START + slot * SLOT_S
                host.core.measured(at, run_plant(PHYSICAL, 0, LOAD, host.core.setpoint(at), SupplyState.NORMAL))
                host.start()
                assert host.tell(now=at).result == "repeated"
            host.slot(START + slot * SLOT_S)
        assert host.bought == 300_000


def test_the_same_quarter_is_bought_once_whatever_comes() -> None:
    host = Host()
    assert host.tell().result == "done"
    assert host.tell().result == "repeated"
    again = host.tell(id="p2", energy_mwh=500_000)
    assert (again.result, again.held) == ("superseded", "p1")
    assert host.tell(id="p0", quarter=QUARTER - 1).result == "expired"
    assert host.tell(id="p3", now=START + QUARTER_S).result == "expired"
    assert host.tell(id="p9", quarter=QUARTER + 2, until=START + 4 * QUARTER_S).result == "refused"
    assert host.tell(id="x", cmd="rates").result == "unsupported"
    host.slots(START, START + QUARTER_S)
    assert host.bought == 300_000


def test_a_purchase_for_the_next_quarter_leaves_the_present_one() -> None:
    host = Host()
    host.tell()
    host.slots(START, START + 30 * SLOT_S)
    host.tell(START + 455, id="p2", quarter=QUARTER + 1, energy_mwh=60_000, until=START + 2 * QUARTER_S)
    host.slots(START + 30 * SLOT_S, START + QUARTER_S)
    assert host.bought == 300_000
    host.slots(START + QUARTER_S, START + 2 * QUARTER_S)
    assert host.bought == 360_000


def test_slots_measured_again_after_the_clock_was_set_back_buy_nothing() -> None:
    host = Host()
    host.tell()
    host.slots(START, START + 40 * SLOT_S)
    host.slots(START + 20 * SLOT_S, START + QUARTER_S)
    assert host.bought == 300_000


def test_what_is_kept_stays_over_quarters_and_restarts() -> None:
    host = Host()
    host.tell(keep_mwh=5_000_000)
    host.slots(START, START + 2 * QUARTER_S)
    host.start()
    assert host.core.setpoint(START + 2 * QUARTER_S).keep == 5_000_000
    host.tell(START + 2 * QUARTER_S, id="p2", quarter=QUARTER + 2, energy_mwh=0, until=START + 3 * QUARTER_S)
    assert host.core.state.keep == 5_000_000


def test_the_outcome_has_the_quarters_that_were_asked_for() -> None:
    host = Host()
    host.slots(START, START + 3 * QUARTER_S)
    host.start()
    keys = {"quarter": QUARTER + 3, "until": START + 4 * QUARTER_S, "first_quarter": QUARTER + 1}
    outcome = host.tell(START + 3 * QUARTER_S, **keys)
    assert [row.quarter for row in outcome.quarters] == [QUARTER + 1, QUARTER + 2]
    assert all(isinstance(row, PlantQuarter) for row in outcome.quarters)


def test_an_unreadable_command_is_counted_and_changes_nothing() -> None:
    host = Host()
    assert host.core.receive(b'{"v":1,"id":"p1","cmd":"purchase","until":4000000000}', START) == []
    assert host.core.receive(b"junk", START) == []
    assert host.core.malformed == 2


def test_a_report_comes_each_minute_and_at_a_change_of_the_supply() -> None:
    host = Host()
    for second in range(0, 180, SLOT_S):
        host.supply = SupplyState.NORMAL if second < 75 else SupplyState.LOW
        host.slot(START + second)
    reports = [unpack_json(PlantReport, message.payload) for message in host.sent]
    assert [report.time - START for report in reports] == [15, 75, 90, 150]
    assert {message.qos for message in host.sent} == {0}
    assert {message.topic for message in host.sent} == {"cw1/plant/u/stat"}
    first, low = reports[0], reports[2]
    assert (first.supply, first.line_w, first.bought_w, first.battery_w) == ("NORMAL", 2880, 0, -960)
    assert (low.supply, low.line_w) == ("LOW", 960)
    assert first.prices == ((START, 1000), (START + QUARTER_S, 1500))
    assert host.core.report(SupplyState.LOW, START + 200, voltage=False)

"""An account's Green Button feed and spreadsheet, read back by others' programs and by a plain reference."""

import csv
import io
import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from greenbutton_objects import enums
from greenbutton_objects.parse import parse_feed

from commonwatt.model.blocks import Blocks, join, make_blocks
from commonwatt.model.time.times import parse_time
from commonwatt.settlement.settled import Quantity, SettledQuality, SettledQuarters
from commonwatt.town.town import Direction, Function
from harness.green_button import faults
from utility.exports.customer.files import spreadsheet
from utility.exports.customer.green_button import green_button
from utility.exports.customer.quarters import AccountQuarters, Flow, Quality, from_readings, from_settled
from utility.exports.holdings import Held, held_by
from utility.jobs.calendar_periods import NEW_YORK
from utility.registry.accounts import DatedRegistry, Holding, Installed

FIRST, END = (parse_time(text, "", NEW_YORK) // 900 for text in ("2026-10-31", "2026-11-03"))
IN, OUT, NEW_OUT = 10001, 10002, 10003
MOVE = FIRST + 50  # the quarter in which the account moves in
EXCHANGE = FIRST + 200  # the quarter in which the outgoing meter is exchanged


def meter(number: int, direction: Direction, *holdings: Holding) -> Installed:
    return Installed(
        id=number, microgrid="r001", place="h1", function=Function.HOUSE, direction=direction, holdings=holdings
    )


REGISTRY = DatedRegistry(
    revision=1,
    meters={
        IN: meter(IN, Direction.INCOMING, Holding(account=6, start=0, end=MOVE), Holding(account=7, start=MOVE)),
        OUT: meter(OUT, Direction.OUTGOING, Holding(account=7, start=MOVE, end=EXCHANGE)),
        NEW_OUT: meter(NEW_OUT, Direction.OUTGOING, Holding(account=7, start=EXCHANGE)),
    },
)


def random_blocks() -> Blocks:
    rng = np.random.default_rng(3)
    keys = [(one, 3, quarter) for one in (IN, OUT, NEW_OUT) for quarter in range(FIRST, END) if quarter % 40]
    keys += [(OUT, 1, quarter) for quarter in range(FIRST, END)]
    quality = np.full((len(keys), 60), 2)
    quality[5::20, :10] = 1
    quality[7::30, :3] = 0
    return join([make_blocks(keys, rng.integers(0, 9_999, (len(keys), 60)), quality)])


@pytest.fixture(scope="module")
def quarters() -> AccountQuarters:
    held = held_by(REGISTRY, [7], FIRST, END)
    return from_readings(7, random_blocks(), held, FIRST, END)


def test_an_account_has_the_energy_of_the_meters_that_it_had_then(quarters: AccountQuarters) -> None:
    expected: dict[tuple[Flow, int], tuple[int, Quality]] = {}
    blocks = random_blocks()
    for row in range(len(blocks)):
        number, record_type, quarter = blocks.key(row)
        if record_type != 3 or REGISTRY.meters[number].account_at(quarter) != 7:
            continue
        flow = Flow.DELIVERED if number == IN else Flow.RECEIVED
        slots = blocks.quality[row].tolist()
        quality = Quality.INCOMPLETE if 0 in slots else Quality.AVERAGED if 1 in slots else Quality.MEASURED
        expected[flow, quarter] = sum(blocks.values[row].tolist()), quality
    found = {
        (flow, FIRST + column): (int(quarters.energy[flow][column]), Quality(int(quality)))
        for flow in Flow
        for column, quality in enumerate(quarters.quality[flow])
        if quality
    }
    assert found == expected
    assert {quality for _, quality in found.values()} == {Quality.INCOMPLETE, Quality.AVERAGED, Quality.MEASURED}


def test_green_button_is_read_back_by_another_program(quarters: AccountQuarters, tmp_path: Path) -> None:
    path = tmp_path / "feed.xml"
    path.write_text("".join(green_button(quarters, "abc", NEW_YORK)))
    (point,) = parse_feed(path)
    assert point.serviceCategory == enums.ServiceKind.electricity
    assert len(point.meterReadings) == 2
    for reading in point.meterReadings:
        kind = reading.readingType
        assert (kind.uom, kind.commodity, kind.kind) == (
            enums.UomType(72),
            enums.CommodityType.electricity,
            enums.KindType.energy,
        )
        assert kind.accumulationBehaviour == enums.AccumulationBehaviourType.deltaData
        assert (kind.intervalLength, kind.powerOfTenMultiplier) == (900, -3)
        flow = Flow(kind.flowDirection.value)
        codes = {
            frozenset(): Quality.MEASURED,
            frozenset({enums.QualityOfReading.questionable}): Quality.INCOMPLETE,
            frozenset({enums.QualityOfReading.derived}): Quality.AVERAGED,
        }
        found = {
            int(one.timePeriod.start.timestamp()) // 900: (
                round(one.value * 1000),
                codes[frozenset(quality.quality for quality in one.readingQualities)],
            )
            for one in reading.intervalReadings
        }
        assert found == {
            FIRST + column: (int(quarters.energy[flow][column]), quality)
            for column, quality in enumerate(quarters.quality[flow].tolist())
            if quality
        }
        # Days of 24, 25 and 24 hours, from their midnight.
        begins = [(block.interval.start, block.interval.duration.total_seconds()) for block in reading.intervalBlocks]
        assert begins == [
            (datetime(2026, 10, 31, 4, tzinfo=UTC), 86_400),
            (datetime(2026, 11, 1, 4, tzinfo=UTC), 90_000),
            (datetime(2026, 11, 2, 5, tzinfo=UTC), 86_400),
        ]


def test_green_button_of_moves_and_exchanges_obeys_the_schema(quarters: AccountQuarters) -> None:
    assert faults(ET.fromstring("".join(green_button(quarters, "abc", NEW_YORK)))) == []


def test_a_feed_of_the_same_quarters_is_the_same_and_names_no_meter(quarters: AccountQuarters) -> None:
    first, second = ("".join(green_button(quarters, "abc", NEW_YORK)) for _ in range(2))
    assert first == second
    assert "".join(green_button(quarters, "abd", NEW_YORK)) != first
    names = re.sub(r">\d+<", "><", first)
    assert not any(name in names for name in (str(IN), str(OUT), "r001", "h1"))


def test_the_spreadsheet_has_local_times_and_exact_kilowatt_hours(quarters: AccountQuarters) -> None:
    rows = list(csv.DictReader(io.StringIO("".join(spreadsheet(quarters, NEW_YORK)))))
    assert len(rows) == END - FIRST == 292
    twice = [(row["Date"], row["Begin"], row["UTC offset"]) for row in rows if row["Begin"] == "01:30"]
    assert twice == [
        ("2026-10-31", "01:30", "-04:00"),
        ("2026-11-01", "01:30", "-04:00"),
        ("2026-11-01", "01:30", "-05:00"),
        ("2026-11-02", "01:30", "-05:00"),
    ]
    assert rows[0]["Delivered to you (kWh)"] == ""
    column = 131
    energy = int(quarters.energy[Flow.DELIVERED][column])
    assert rows[column]["Delivered to you (kWh)"] == f"{energy // 10**6}.{energy % 10**6:06d}"
    assert rows[column]["Quality"] in ("measured", "averaged", "incomplete")


def test_settled_energy_of_the_town_and_of_neighbours_is_what_the_meter_shows() -> None:
    count = 8
    shape = (2, count)
    energies = {quantity: np.full(shape, 10 ** int(quantity), np.int64) for quantity in Quantity}
    for quantity in Quantity:
        energies[quantity][0, 6] = 0
    energies[Quantity.IMPORTED][1] = energies[Quantity.SHARED_IN][1] = 0
    quality = np.full(shape, SettledQuality.MEASURED, np.uint8)
    quality[0, 6] = SettledQuality.MISSING
    quality[0, 3], quality[0, 4], quality[1, 5] = (
        SettledQuality.MISSING,
        SettledQuality.ESTIMATED,
        SettledQuality.EDITED,
    )
    version = np.ones(shape, np.int32)
    version[:, 7] = 0
    settled = SettledQuarters(
        meters=np.array([IN, OUT], np.uint64),
        first=FIRST,
        energies=energies,
        quality=quality,
        provisional=np.zeros(shape, np.bool_),
        version=version,
    )
    held = [
        Held(meter=IN, direction=Direction.INCOMING, first=FIRST, end=FIRST + count),
        Held(meter=OUT, direction=Direction.OUTGOING, first=FIRST + 1, end=FIRST + count),
    ]
    energies[Quantity.EXPORTED][0] = energies[Quantity.SHARED_OUT][0] = 0
    found = from_settled(7, settled, held)
    assert found.settled
    assert found.energy[Flow.DELIVERED].tolist() == [110, 110, 110, 110, 110, 110, 0, 0], "as on the bill"
    assert found.energy[Flow.RECEIVED].tolist() == [0, *[11_000] * 6, 0]
    names = {flow: [Quality(value).name for value in values.tolist()] for flow, values in found.quality.items()}
    assert names[Flow.DELIVERED] == ["MEASURED"] * 3 + ["INCOMPLETE", "ESTIMATED", "MEASURED", "MISSING", "MISSING"]
    assert names[Flow.RECEIVED] == ["MISSING", *["MEASURED"] * 4, "EDITED", "MEASURED", "MISSING"]

"""The form of a tariff: from a text to the form and back, what it can't show, what is wrong beside which field."""

from pathlib import Path
from random import Random

import numpy as np
import pytest

from commonwatt.model.exceptions import ConfigError
from harness.billing.worlds import ZONE, random_policy, random_world, tariff
from utility.tariffs.file import TariffFile
from utility.tariffs.prices_form import PricesForm, beyond, form_of, kept_of, source_of, written
from utility.tariffs.tariff import Tariff, parse_tariff
from utility.tariffs.week import table_of

SOURCE = (Path(__file__).parents[4] / "docs/examples/tariff.toml").read_text()
EXAMPLE = parse_tariff(SOURCE)
EQUAL = (("peak", "0.3", "0.3"), ("off-peak", "0.2", "0.2"))  # as the rule of the regional price needs
FIXTURES = [
    EXAMPLE,
    tariff(),
    *(
        tariff(version=n, prices=EQUAL, peak=(f"{n:02d}:00", "22:00"), policy=random_policy(Random(n)))
        for n in range(12)
    ),
    tariff(
        tax=[{"name": "levy", "per_kwh": "0.005"}, {"name": "VAT", "percent": "20", "on": ["import", "levy"]}],
        bill={"currency": "EUR"},
        reminder=[{"days": 14, "fee": "5.00"}, {"days": 7}],
        tariff={
            "name": "town",
            "text": "a test",
            "timezone": ZONE,
            "effective": "2026-10-01",
            "base": "12.00",
            "corrects": "a slip",
        },
    ),
    *(each for seed in range(8) for each in random_world(seed).inputs.tariffs),
]
SHOWN = [each for each in FIXTURES if not beyond(each.file)]
EVENING = slice(16 * 8, 21 * 8)


def changed(**fields: object) -> PricesForm:
    """Return the example's form with other fields."""
    return form_of(EXAMPLE.file).model_copy(update=fields)


@pytest.mark.parametrize("one", SHOWN, ids=lambda one: f"{one.label} {one.policy.name} {one.file.tariff.effective}")
def test_form_writes_the_tariff_that_it_was_made_of(one: Tariff) -> None:
    form, kept = form_of(one.file), one.file.canonical()
    made = written(form, kept_of(source_of(one.file)))
    assert made.faults == {}
    again = parse_tariff(made.text)
    assert form_of(again.file) == form
    assert np.array_equal(table_of(again.file), table_of(one.file))
    hours = ("hours",)
    assert {k: v for k, v in again.file.canonical().items() if k not in hours} == {
        k: v for k, v in kept.items() if k not in hours
    }


def test_fixtures_have_every_table_of_a_tariff() -> None:
    assert {name for each in SHOWN for name, table in each.file if table} == set(TariffFile.model_fields)


@pytest.mark.parametrize("seed", range(5))
def test_any_painted_week_is_read_again(seed: int) -> None:
    random = Random(seed)
    weeks = ["".join(random.choice("12") for _ in range(24 * 8)) for _ in range(2)]
    weeks[1] = weeks[0] if seed % 2 else weeks[1]
    made = written(changed(week=weeks), kept_of(SOURCE))
    assert form_of(parse_tariff(made.text).file).week == weeks


def test_example_is_written_as_briefly_as_by_hand() -> None:
    text = written(form_of(EXAMPLE.file), kept_of(SOURCE)).text
    assert text.count("[[hours]]") <= SOURCE.count("[[hours]]")
    assert 'days = ["weekend", "holiday"]' in text
    assert "effective = 2026-10-01" in text


def test_painted_hours_have_their_price() -> None:
    weeks = list(form_of(EXAMPLE.file).week)
    assert weeks[1][EVENING] == "11111222" * 5, "winter's peak, 4 pm to 9 pm"
    weeks[1] = weeks[1][: EVENING.start] + "2" * (5 * 8) + weeks[1][EVENING.stop :]
    made = parse_tariff(written(changed(week=weeks), kept_of(SOURCE)).text)
    assert (table_of(made.file)[1] == 1).all(), "winter has one price"
    assert (table_of(made.file)[0] == table_of(EXAMPLE.file)[0]).all(), "summer is as it was"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"16:00"', '"16:15"', "a price changes within an hour"),
        ("effective = 2026-10-01", "effective = 2026-10-01T06:00:00", "it begins at a time of the day"),
    ],
)
def test_what_the_form_can_not_show_is_said(old: str, new: str, words: str) -> None:
    assert beyond(parse_tariff(SOURCE.replace(old, new)).file) == [words]


def test_more_prices_than_colours_are_beyond_the_form() -> None:
    prices = [(f"p{n}", "0.3", "0.1") for n in range(7)]
    assert beyond(tariff(prices=prices).file) == ["it has more than 6 prices"]


@pytest.mark.parametrize(
    ("fields", "place", "words"),
    [
        ({"base": "-1"}, "base", "must be dollars"),
        ({"effective": "tomorrow"}, "effective", "must be a date"),
        ({"effective": "2299-01-01"}, "effective", "before the year"),
        ({"text": ""}, "text", "1 to 200 characters"),
        ({"import_price": ["0.3", "dear"]}, "import-1", "must be dollars"),
        ({"credit": ["", "0.1"]}, "credit-0", "must be dollars"),
        ({"name": ["x" * 33, "off-peak"]}, "name-0", "1 to 32 characters"),
        ({"name": ["peak", "peak"]}, "name-1", "is there twice"),
        ({"season_from": ["06-31", "10-01"]}, "season-from-0", "must be month and day"),
        ({"season_until": ["10-02", "06-01"]}, "season-from-1", "overlaps season"),
        ({"season_until": ["09-01", "06-01"]}, "season-from-0", "no season on 09-01"),
        ({"holidays": "Christmas 2026-12-25"}, "holidays", "must be a date and a name"),
        ({"holidays": "2026-12-25 A\n2026-12-25 B"}, "holidays", "is there twice"),
        ({"name": ["peak", ""], "import_price": ["1", ""], "credit": ["1", ""]}, "week-0", "a price that was removed"),
        ({"name": [], "import_price": [], "credit": []}, "name-0", "must be a price"),
    ],
)
def test_fault_stands_beside_its_field(fields: dict[str, object], place: str, words: str) -> None:
    found = written(changed(**fields), kept_of(SOURCE)).faults
    assert words in found[place]
    said = " ".join(found.values())
    assert not any(raw in said for raw in ("Input should", "Value error", "String should", "isoformat"))


def test_line_without_text_is_no_price_and_those_after_it_keep_their_hours() -> None:
    form = changed(name=["", "off-peak", "peak"], import_price=["", "0.2", "x"], credit=["", "0.1", "0.1"])
    form = form.model_copy(update={"week": [week.replace("1", "3") for week in form.week]})
    assert set(written(form, kept_of(SOURCE)).faults) == {"import-2"}
    good = form.model_copy(update={"import_price": ["", "0.2", "0.3"]})
    made = parse_tariff(written(good, kept_of(SOURCE)).text)
    assert [each.name for each in made.prices] == ["off-peak", "peak"]
    assert (table_of(made.file) == 1 - table_of(EXAMPLE.file)).all()


def test_text_of_no_tariff_is_refused() -> None:
    for source in ("", "[", "tariff = 1\npolicy = 2"):
        with pytest.raises(ConfigError):
            kept_of(source)

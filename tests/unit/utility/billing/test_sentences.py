"""Who would pay how much more by new prices, in sentences and steps."""

from decimal import Decimal

from utility.billing.preview import Change, sentences, year
from utility.billing.steps import steps_of


def change(account: int, before: str | None, after: str) -> Change:
    return Change(account=account, before=None if before is None else Decimal(before), after=Decimal(after))


def test_sentences_say_who_pays_how_much_more() -> None:
    changes = [change(1, "10.00", "9.00"), change(2, "20.00", "20.00"), change(3, "10.00", "15.00")]
    assert sentences(year([("2026-10", changes)])) == [
        "1 of 3 accounts would have paid more in 2026-10, 1 less and 1 the same.",
        "All bills together: 44.00 dollars in place of 40.00, +4.00 (+10.0 %).",
        "The middle change is +0.00 dollars; the changes reach from -1.00 (account 1) to +5.00 (account 3).",
    ]


def test_sentences_without_earlier_prices_or_accounts() -> None:
    assert "since no tariff was in force" in sentences(year([("2026-10", [change(1, None, "9.00")])]))[1]
    assert sentences(year([("2026-10", [])])) == ["No account has a bill in that time."]


def test_a_year_says_its_dearest_and_its_cheapest_month_and_for_whom() -> None:
    made = year(
        [
            ("2026-12", [change(1, "10.00", "19.00"), change(2, "20.00", "21.00")]),
            ("2027-05", [change(1, "10.00", "10.10"), change(2, "20.00", "19.00")]),
        ]
    )
    assert [(each.month, each.all.difference, each.high.account) for each in made.months] == [
        ("2026-12", Decimal("10.00"), 1),
        ("2027-05", Decimal("-0.90"), 1),
    ]
    assert sentences(made) == [
        "1 of 2 accounts would have paid more in the 2 months 2026-12 to 2027-05, 0 less and 1 the same.",
        "All bills together: 69.10 dollars in place of 60.00, +9.10 (+15.2 %).",
        "The middle change is +4.55 dollars; the changes reach from +0.00 (account 2) to +9.10 (account 1).",
        "Dearest is 2026-12: +10.00 dollars for all, up to +9.00 (account 1).",
        "Cheapest is 2027-05: -0.90 dollars for all, down to -1.00 (account 2).",
    ]


def test_steps_are_round_and_few() -> None:
    assert steps_of([]) == []
    assert steps_of([-3, 4]) == [(Decimal(n) / 100, Decimal(n + 1) / 100, int(n in (-3, 4))) for n in range(-3, 5)]
    found = steps_of([0, 199, 7488])
    assert found[0] == (Decimal(0), Decimal(5), 2)
    assert found[-1] == (Decimal(70), Decimal(75), 1)

"""Who would pay how much more by new prices, in sentences and steps."""

from decimal import Decimal

from utility.billing.preview import Change, sentences
from utility.billing.steps import steps_of


def change(account: int, before: str | None, after: str) -> Change:
    return Change(account=account, before=None if before is None else Decimal(before), after=Decimal(after))


def test_sentences_say_who_pays_how_much_more() -> None:
    changes = [change(1, "10.00", "9.00"), change(2, "20.00", "20.00"), change(3, "10.00", "15.00")]
    assert sentences(changes, "2026-10") == [
        "1 of 3 accounts would have paid more in 2026-10, 1 less and 1 the same.",
        "All bills together: 44.00 dollars in place of 40.00, +4.00 (+10.0 %).",
        "The middle change is +0.00 dollars a month; the changes reach from -1.00 (account 1) to +5.00 (account 3).",
    ]


def test_sentences_without_earlier_prices_or_accounts() -> None:
    assert "since no tariff was in force" in sentences([change(1, None, "9.00")], "2026-10")[1]
    assert sentences([], "2026-10") == ["No account has a bill in 2026-10."]


def test_steps_are_round_and_few() -> None:
    assert steps_of([]) == []
    assert steps_of([-3, 4]) == [(Decimal(n) / 100, Decimal(n + 1) / 100, int(n in (-3, 4))) for n in range(-3, 5)]
    found = steps_of([0, 199, 7488])
    assert found[0] == (Decimal(0), Decimal(5), 2)
    assert found[-1] == (Decimal(70), Decimal(75), 1)

"""A payment settles the oldest bill first; reminders follow the levels, and not while instalments are paid."""

from dataclasses import replace

from utility.ledger.entry import Entry, Kind, instalments, keeps_plan, open_items, reminders, reversal

LEVELS = [(7, 0), (14, 500)]


def bill(no: int, due: str, cents: int, kind: Kind = Kind.BILL, about: int = 0) -> Entry:
    lines = {"receivables": cents, "energy": -cents}
    return Entry(
        no=no, day="2026-11-01", kind=kind, of=str(no), account=1, cents=cents, due=due, about=about, lines=lines
    )


def paid(no: int, cents: int) -> Entry:
    return bill(no, "", -cents, Kind.ASSIGNMENT)


def left(*entries: Entry) -> list[tuple[int, int]]:
    return [(entry.no, cents) for entry, cents in open_items(entries)]


def test_payment_settles_the_oldest_due_bill_first() -> None:
    late, early = bill(1, "2026-12-31", 500), bill(2, "2026-11-30", 300)
    assert left(late, early) == [(2, 300), (1, 500)]
    assert left(late, early, paid(3, 400)) == [(1, 400)]
    assert left(late, early, paid(3, 900)) == []
    assert left(late, early, paid(3, 900), replace(reversal(paid(3, 900), "2026-12-01"), no=4)) == [(2, 300), (1, 500)]


def test_cancelled_bill_leaves_what_was_paid_to_the_others() -> None:
    first, second = bill(1, "2026-11-30", 300), bill(2, "2026-12-31", 500)
    cancelled = replace(reversal(first, "2026-12-01"), no=4)
    assert left(first, second, paid(3, 300), cancelled) == [(2, 200)]


def test_returned_direct_debit_is_open_again() -> None:
    assert left(bill(1, "2026-11-30", 300), paid(2, 300), paid(3, -300)) == [(1, 300)]
    assert left(bill(1, "2026-11-30", 300), paid(2, 300), paid(3, -400)) == [(3, 100), (1, 300)], "more went back"


def test_reminders_follow_the_levels_and_end_with_them() -> None:
    entries, days = [bill(1, "2026-11-30", 300)], []
    for day in [f"2026-12-{n:02}" for n in range(1, 32)]:
        for new in reminders(entries, day, LEVELS):
            entries.append(replace(new, no=len(entries) + 1))
            days.append((day, new.of, new.cents))
    assert days == [("2026-12-07", "bill 1 level 1", 0), ("2026-12-21", "bill 1 level 2", 500)]
    assert left(*entries) == [(1, 300), (3, 500)], "the fee is owed too, and is not reminded of"
    assert reminders([bill(1, "2026-11-30", 300), paid(2, 300)], "2027-11-30", LEVELS) == []
    assert reminders([bill(1, "2026-11-30", 300)], "2027-11-30", []) == [], "the tariff has no reminders"


def plan(first: int, *parts: tuple[str, int]) -> list[Entry]:
    return [bill(first + n, due, cents, Kind.INSTALMENT, about=first - 1) for n, (due, cents) in enumerate(parts)]


def test_account_that_pays_its_instalments_is_not_reminded() -> None:
    owed = [bill(1, "2026-11-30", 301), *plan(2, *instalments(301, 3, "2026-12-15"))]
    assert [(each.due, each.cents) for each in owed[1:]] == [
        ("2026-12-15", 100), ("2027-01-15", 100), ("2027-02-15", 101)
    ]  # fmt: skip
    assert left(*owed) == [(1, 301)], "a plan changes no balance"
    assert keeps_plan(owed, "2026-12-15")
    assert reminders(owed, "2026-12-15", LEVELS) == []
    assert [each.about for each in reminders(owed, "2026-12-16", LEVELS)] == [1], "an instalment is overdue"
    assert reminders([*owed, paid(9, 100)], "2026-12-16", LEVELS) == []
    assert keeps_plan([*owed, paid(9, 100)], "2027-01-15")
    assert not keeps_plan([*owed, paid(9, 100)], "2027-01-16")
    assert not keeps_plan([*owed, paid(9, 301)], "2026-12-16"), "it is paid off, and protects no more"
    assert not keeps_plan([paid(9, 301)], "2026-12-16")


def test_instalments_of_a_month_s_last_day_stay_in_their_months() -> None:
    assert [day for day, _ in instalments(400, 4, "2026-11-30")] == [
        "2026-11-28", "2026-12-28", "2027-01-28", "2027-02-28"
    ]  # fmt: skip

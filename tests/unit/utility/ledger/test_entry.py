"""A payment settles the oldest bill first; reminders follow the levels."""

from dataclasses import replace

from utility.ledger.entry import Entry, Kind, open_items, reminders, reversal

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

"""A payment settles the oldest bill first; what went back is open again."""

from dataclasses import replace

from utility.ledger.entry import Entry, Kind, open_items, reversal


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

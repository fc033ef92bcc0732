"""Random histories of ledgers: the independent checker agrees after every step. Ten thousand run in the soak."""

import os
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from harness.ledger.checker import faults
from harness.ledger.histories import history, memory, template
from utility.ledger.store import entries

HISTORIES = int(os.environ.get("HISTORIES", "50"))  # ``make soak`` has more


def test_random_histories_balance_after_every_step() -> None:
    with TemporaryDirectory(dir=memory()) as name:
        content, done = template(Path(name)), Counter[str]()
        for seed in range(1, HISTORIES + 1):
            done.update(history(seed, content, Path(name), steps=15))
    assert len(done) == 13, f"each kind of step was done: {done}"


def test_histories_find_entries_in_a_closed_month(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "month_after", lambda month: month)
    with TemporaryDirectory(dir=memory()) as name:
        content = template(Path(name))
        with pytest.raises(AssertionError, match=r"should owe|the bank says"):
            _all(content, Path(name))


def _all(content: bytes, folder: Path) -> None:
    for seed in range(14, 51):  # the first one that finds them
        history(seed, content, folder)


def test_checker_says_what_is_out_of_balance() -> None:
    line = {"entry": "1", "day": "2026-11-05", "kind": "bill", "of": "", "account": "1", "due": "", "about": "0"}
    rows = [line | {"key": "receivables", "cents": "500"}, line | {"key": "energy", "cents": "-500"}]
    bills = [{"run": "1", "account": "1", "cents": "500", "taxes": "0", "state": "issued"}]
    assert faults({"2026-11": rows}, bills, []) == []
    assert faults({"2026-11": rows}, [bills[0] | {"taxes": "80"}], []) == ["taxes are 0, and should be 80"]
    assert faults({"2026-11": rows[:1]}, bills, []) == ["entry 1 is out of balance by 500"]
    assert faults({"2026-12": rows}, bills, [])[0] == "entry 1 of 2026-11-05 stands in 2026-12"
    assert faults({"2026-11": rows}, [], []) == ["account 1 owes 500, and should owe 0"]
    fee = line | {"entry": "2", "kind": "reminder", "about": "1"}
    fees = [fee | {"key": "receivables", "cents": "5"}, fee | {"key": "fees", "cents": "-5"}]
    named = [each | {"of": "run 1 account 1"} for each in rows]
    assert faults({"2026-11": [*named, *fees]}, bills, []) == []
    cancelled = faults({"2026-11": [*named, *fees]}, [bills[0] | {"state": "cancelled"}], [])
    assert cancelled[0] == "reminder 2 of a cancelled bill costs 5"
    assert "the bank says 100" in faults({"2026-11": rows}, bills, [{"cents": "100", "account": "1"}])[-1]

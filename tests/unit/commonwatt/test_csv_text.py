"""Cells of tables that clerks open in a spreadsheet."""

import csv
import io
import re
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from commonwatt.model.csv_text import cell_of, line_of, text_of
from harness.docs.marked import DOCS

FORMULAS = ["=cmd|'/C calc'!A0", "+1+cmd", "-1+cmd|x", "@SUM(A1)", "\t=1", "\r=1", "\x00", "'=1", "-", "+49 1", "--1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_text_that_begins_like_a_formula_is_written_as_text(text: str) -> None:
    (row,) = csv.reader(io.StringIO(line_of([text, 1]), newline=""))
    assert (row[0][:2], text_of(row[0])) == (f"'{text[0]}", text)


@pytest.mark.parametrize("text", ["x;=cmd|'/C calc'!A0", "x; =1", "x\t@SUM(A1)", "x;'=1", "x\n+1", "x;;-1"])
def test_a_text_with_a_formula_after_another_separator_is_no_formula_there(text: str) -> None:
    (row,) = csv.reader(io.StringIO(line_of([text, 1]), newline=""))
    assert not [cell for cell in re.split(r"[;\t\n]", row[0]) if re.match(r" *[=+\-@]", cell)]
    assert text_of(row[0]) == text


@pytest.mark.parametrize("value", [-5, -0.25, Decimal("-12.50"), "-3.000000", 7, "+01:00", "-05:00", "a=b", "'a"])
def test_numbers_offsets_and_other_texts_stay_as_they_are(value: object) -> None:
    assert cell_of(value) == str(value)


def test_none_is_an_empty_cell() -> None:
    assert line_of([None, "a", 'b"c', "d,e"], "\n") == ',a,"b""c","d,e"\n'


@given(st.lists(st.text(alphabet="'=+-@\t\r\n\",a1:.; ", max_size=6), min_size=2))
@example(["\r' =", "; ' ="])
def test_every_text_is_read_back_unchanged(texts: list[str]) -> None:
    (row,) = csv.reader(io.StringIO(line_of(texts), newline=""), strict=True)
    assert [text_of(cell) for cell in row] == texts
    assert not [cell for cell in row if re.match(r"[=+\-@\x00-\x1f]", cell) and not re.fullmatch(r"[-+\d.:]+", cell)]


def test_no_other_module_writes_csv() -> None:
    names = ("adapters", "commonwatt", "gateway", "meter_sim", "scenarios", "utility")
    paths = [path for name in names for path in (DOCS.parent / name).rglob("*.py")]
    assert [
        path for path in paths if re.search(r"csv\.(writer|DictWriter)|openpyxl|xlsxwriter", path.read_text())
    ] == []

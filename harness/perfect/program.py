"""Large linear programs of flows and stores, solved by HiGHS; all columns are at least 0."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import highspy
import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

INFINITY = highspy.kHighsInf


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """The answer to a program, its size without what is fixed at 0, and what the solver took."""

    values: Floats
    columns: int
    rows: int
    nonzeros: int
    seconds: float


class Program:
    """A linear program that is put together from blocks of columns and rows."""

    def __init__(self) -> None:
        self._high: list[Floats] = []
        self._cost: list[Floats] = []
        self._least: list[Floats] = []
        self._most: list[Floats] = []
        self._entries: list[tuple[Integers, Integers, Floats]] = []
        self._columns = self._rows = 0

    def columns(self, high: Floats, cost: float | Floats = 0.0) -> Integers:
        """Return new columns, in the shape of their upper bounds.

        Args:
            high: The most of each.
            cost: What a unit of each costs.
        """
        made = np.arange(self._columns, self._columns + high.size).reshape(high.shape)
        self._columns += high.size
        self._high.append(high.ravel())
        self._cost.append(np.broadcast_to(np.asarray(cost, dtype=np.float64), high.shape).ravel())
        return made

    def rows(self, least: Floats, most: float | Floats) -> Integers:
        """Return new rows, in the shape of their lower bounds."""
        made = np.arange(self._rows, self._rows + least.size).reshape(least.shape)
        self._rows += least.size
        self._least.append(least.ravel())
        self._most.append(np.broadcast_to(np.asarray(most, dtype=np.float64), least.shape).ravel())
        return made

    def enter(self, columns: Integers, rows: Integers, value: float | Floats = 1.0) -> None:
        """Enter values where columns and rows meet; all are brought to the columns' shape."""
        there = np.broadcast_to(rows, columns.shape).ravel()
        self._entries.append((columns.ravel(), there, np.broadcast_to(np.float64(value), columns.shape).ravel()))

    def store(
        self, level: Integers, inflows: Sequence[Integers], outflows: Sequence[Integers], start: Floats, kept: float = 1
    ) -> None:
        """Make a level of each hour the one before, and what is kept of the inflows, less the outflows.

        Args:
            level: The columns of the levels at the hours' ends; hours are the last axis.
            inflows: The columns of what comes in.
            outflows: The columns of what goes out.
            start: The levels at the start.
            kept: The part of what comes in that is not lost.
        """
        before = np.zeros(level.shape)
        before[..., 0] = start
        row = self.rows(before, before)
        self.enter(level, row)
        self.enter(level[..., :-1], row[..., 1:], -1.0)
        for columns in inflows:
            self.enter(columns, row, -kept)
        for columns in outflows:
            self.enter(columns, row)

    def solved(self) -> Answer:
        """Return the cheapest answer.

        Raises:
            ValueError: There is none.
        """
        high, cost = np.concatenate(self._high), np.concatenate(self._cost)
        column, row, value = (np.concatenate(each) for each in zip(*self._entries, strict=True))
        used = high > 0
        kept = used[column]
        column, row, value = (np.cumsum(used) - 1)[column[kept]], row[kept], value[kept]
        least, most = np.concatenate(self._least), np.concatenate(self._most)
        bound, row = np.unique(row, return_inverse=True)
        rest = np.setdiff1d(np.arange(self._rows), bound)
        if (least[rest] > 0).any() or (most[rest] < 0).any():
            raise ValueError("no answer: a row without columns can't be 0")
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = int(used.sum()), len(bound)
        model.col_lower_, model.col_upper_ = np.zeros(model.num_col_), high[used]
        model.col_cost_ = cost[used]
        model.row_lower_, model.row_upper_ = least[bound], most[bound]
        order = np.argsort(column, kind="stable")
        model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        model.a_matrix_.start_ = np.searchsorted(column[order], np.arange(model.num_col_ + 1)).astype(np.int32)
        model.a_matrix_.index_, model.a_matrix_.value_ = row[order].astype(np.int32), value[order]
        found, seconds = _run(model)
        values = np.zeros(len(high))
        values[used] = found
        return Answer(values=values, columns=len(found), rows=len(bound), nonzeros=len(value), seconds=seconds)


_WAYS: tuple[Mapping[str, str | int], ...] = (
    # The interior point is enough: what is wanted is a sum, and a vertex costs minutes.
    {"solver": "ipm", "run_crossover": "off"},
    # Its answer to a program with many equal answers is at times not exact enough.
    {"solver": "simplex"},
)
"""The solver's settings, in the order in which they are tried."""


def _run(model: highspy.HighsLp) -> tuple[Floats, float]:
    begun = perf_counter()
    for way in _WAYS:
        highs = highspy.Highs()  # type: ignore[no-untyped-call]
        for option, setting in {"output_flag": False, "threads": 1, **way}.items():
            highs.setOptionValue(option, setting)
        highs.passModel(model)
        highs.run()
        if highs.getModelStatus() == highspy.HighsModelStatus.kOptimal:
            return np.asarray(highs.getSolution().col_value), perf_counter() - begun
    raise ValueError(f"no answer: {highs.modelStatusToString(highs.getModelStatus())}")

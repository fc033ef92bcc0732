"""Large linear programs of flows and stores, solved by HiGHS; all columns are at least 0."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import highspy
import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

Entry = tuple[Integers, Integers, float]
"""Columns, rows of one shape, and the value where they meet."""

INFINITY = highspy.kHighsInf


@dataclass(frozen=True, kw_only=True, eq=False)
class Program:
    """A linear program.

    Attributes:
        cost: What a unit of each column costs.
        high: The most of each column.
        least: The least of each row.
        most: The most of each row.
        entries: The matrix.
    """

    cost: Floats
    high: Floats
    least: Floats
    most: Floats
    entries: Sequence[Entry]


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """The answer to a program, its size, and what the solver took."""

    values: Floats
    columns: int
    rows: int
    nonzeros: int
    seconds: float


def solved(program: Program) -> Answer:
    """Return the cheapest answer.

    Raises:
        ValueError: There is none.
    """
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = len(program.high), len(program.least)
    model.col_lower_, model.col_upper_, model.col_cost_ = np.zeros(len(program.high)), program.high, program.cost
    model.row_lower_, model.row_upper_ = program.least, program.most
    column = np.concatenate([columns.ravel() for columns, _, _ in program.entries])
    row = np.concatenate([rows.ravel() for _, rows, _ in program.entries])
    value = np.concatenate([np.full(columns.size, each) for columns, _, each in program.entries])
    order = np.argsort(column, kind="stable")
    model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    model.a_matrix_.start_ = np.searchsorted(column[order], np.arange(len(program.high) + 1)).astype(np.int32)
    model.a_matrix_.index_, model.a_matrix_.value_ = row[order].astype(np.int32), value[order]
    highs = highspy.Highs()  # type: ignore[no-untyped-call]
    # The interior point is enough: what is wanted is a sum, and a vertex costs minutes.
    for option, setting in (("output_flag", False), ("threads", 1), ("solver", "ipm"), ("run_crossover", "off")):
        highs.setOptionValue(option, setting)
    highs.passModel(model)
    begun = perf_counter()
    highs.run()
    seconds = perf_counter() - begun
    if highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        raise ValueError(f"no answer: {highs.modelStatusToString(highs.getModelStatus())}")
    values = np.asarray(highs.getSolution().col_value)
    return Answer(values=values, columns=len(values), rows=len(program.least), nonzeros=len(value), seconds=seconds)


def store(
    level: Integers, inflows: Sequence[Integers], outflows: Sequence[Integers], row: Integers, kept: float
) -> list[Entry]:
    """Return the entries of stores by hour: level = the one before + what is kept of the inflows - the outflows.

    Args:
        level: The columns of the levels at the hours' ends; hours are the last axis.
        inflows: The columns of what is charged.
        outflows: The columns of what is discharged.
        row: The rows; the right side of the first hour is the level at the start, else 0.
        kept: The part of what is charged that is not lost.
    """
    return [
        (level, row, 1.0),
        (level[..., :-1], row[..., 1:], -1.0),
        *((charge, row, -kept) for charge in inflows),
        *((draw, row, 1.0) for draw in outflows),
    ]

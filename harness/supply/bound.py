"""A strict bound of the cost of buying: one linear program over the whole time, with everything known beforehand.

No policy with the same plant, reserve and accounts can be cheaper. The battery's content at the end has a worth, as it
has in the accounts of the policies that are compared.
"""

import highspy
import numpy as np
from numpy.typing import NDArray

from utility.supply.plant import Plant

_KINDS = 5
_BUY, _CHARGE, _DISCHARGE, _REFUSED, _LEVEL = range(_KINDS)

_Integers = NDArray[np.int64]


def strict_bound(plant: Plant, net: _Integers, prices: _Integers, line: _Integers, credit: int, worth: int) -> float:
    """Return the least cost: purchases and exports paid, less the worth of the content at the end.

    Args:
        plant: The plant at the start; its reserve is never touched.
        net: The net load of each quarter-hour, milliwatt-hours.
        prices: The price of each.
        line: The most that the line delivers in each, milliwatt-hours.
        credit: The price of residents' exports.
        worth: The worth of what the battery holds at the end, a milliwatt-hour.

    Raises:
        ValueError: If no purchases serve this load without touching the reserve.
    """
    unit = max(1, plant.power_quarter)
    highs = highspy.Highs()  # type: ignore[no-untyped-call]
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("threads", 1)
    highs.passModel(_model(plant, unit, net, prices, line, credit, worth))
    highs.run()
    status = highs.getModelStatus()
    if status != highspy.HighsModelStatus.kOptimal:
        raise ValueError(f"no strict bound: {highs.modelStatusToString(status)}")
    # The program pays for what it refuses less than nothing: exports are paid as if all were taken.
    exported = int(np.maximum(0, -net).sum())
    return float(highs.getInfo().objective_function_value * unit + credit * exported)


def _model(
    plant: Plant, unit: int, net: _Integers, prices: _Integers, line: _Integers, credit: int, worth: int
) -> highspy.HighsLp:
    """Return the program; rows: the balance of each quarter, then its level."""
    count, kept = len(net), (1000 - plant.loss_permille) / 1000
    low, high, cost = np.zeros((_KINDS, count)), np.ones((_KINDS, count)), np.zeros((_KINDS, count))
    high[_BUY], high[_REFUSED] = line / unit, np.maximum(0, -net) / unit
    low[_LEVEL], high[_LEVEL] = plant.reserve / unit, plant.capacity / unit
    cost[_BUY], cost[_REFUSED], cost[_LEVEL, -1] = prices, -credit, -worth
    sides = np.concatenate([net / unit, np.zeros(count)])
    sides[count] = plant.level / unit
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = _KINDS * count, 2 * count
    model.col_lower_, model.col_upper_, model.col_cost_ = low.ravel(), high.ravel(), cost.ravel()
    model.row_lower_ = model.row_upper_ = sides
    model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    model.a_matrix_.start_, model.a_matrix_.index_, model.a_matrix_.value_ = _matrix(count, kept)
    return model


def _matrix(count: int, kept: float) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    """Return the matrix by columns: starts, rows and values."""
    balance = np.arange(count)
    level = count + balance
    parts = [
        (balance[:, None], [1.0]),
        (np.stack([balance, level], 1), [-1.0, -kept]),
        (np.stack([balance, level], 1), [1.0, 1.0]),
        (balance[:, None], [-1.0]),
        (np.stack([level, level + 1], 1), [1.0, -1.0]),
    ]
    rows = np.concatenate([part.ravel() for part, _ in parts])[:-1]
    values = np.concatenate([np.tile(value, count) for _, value in parts])[:-1]
    starts = np.concatenate([[0], np.cumsum(np.repeat([part.shape[1] for part, _ in parts], count))])
    starts[-1] -= 1  # The last level is no start of another quarter.
    return starts.astype(np.int32), rows.astype(np.int32), values

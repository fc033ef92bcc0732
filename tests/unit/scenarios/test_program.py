"""Linear programs: what the solver can't finish in one way it solves in another."""

from unittest.mock import patch

import numpy as np
import pytest

from harness.perfect import program
from harness.perfect.program import Program


def _two_prices() -> Program:
    """A need of 3 from two sources at 1 and 5, of which the cheaper has 2."""
    made = Program()
    cheap, dear = made.columns(np.array([2.0]), np.array([1.0])), made.columns(np.array([9.0]), np.array([5.0]))
    row = made.rows(np.array([3.0]), np.array([3.0]))
    made.enter(cheap, row)
    made.enter(dear, row)
    return made


UNFINISHED = {"solver": "ipm", "run_crossover": "off", "presolve": "off", "ipm_iteration_limit": 0}


def test_a_program_that_the_first_way_does_not_finish_is_solved_by_the_next() -> None:
    with patch.object(program, "_WAYS", (UNFINISHED, *program._WAYS[1:])):
        assert _two_prices().solved().values.tolist() == [2.0, 1.0]


def test_a_program_that_no_way_finishes_has_no_answer() -> None:
    with patch.object(program, "_WAYS", (UNFINISHED,)), pytest.raises(ValueError, match="no answer: Iteration limit"):
        _two_prices().solved()

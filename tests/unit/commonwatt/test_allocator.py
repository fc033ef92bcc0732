"""Freed memory is kept where the C library takes the setting, and a program starts anywhere."""

import ctypes
import subprocess
import sys
from unittest.mock import patch

import pytest

from commonwatt.runtime.allocator import KEPT_ARRAY_BYTES, keep_freed_memory

FAULTS = f"""
import resource
import numpy as np
from commonwatt.runtime.allocator import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        np.ones({KEPT_ARRAY_BYTES} // 2, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
before = faults()
assert keep_freed_memory()
faults()
print(before, faults())
"""


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc")
def test_a_batch_s_arrays_are_not_given_back_to_the_kernel() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert after < before / 10


def test_a_c_library_without_the_call_is_left_as_it_is() -> None:
    with patch("ctypes.CDLL", return_value=object()):
        assert not keep_freed_memory()

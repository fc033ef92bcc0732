"""The tests of what runs at a site on Python 3.13, which Debian 13 has, a case of each; ``make soak`` runs all."""

import subprocess

import pytest

from harness.clique.real.namespaces import need_namespaces
from harness.real.other_python import debian_13
from harness.real.parts import real_part

pytestmark = pytest.mark.real

FOLDERS = ("adapters", "broker", "commonwatt", "device", "gateway", "meter_sim")


def test_meters_gateways_adapters_and_brokers_pass_their_tests_on_python_3_13() -> None:
    need_namespaces()
    real_part("mmdebstrap")
    with debian_13("-n", "2", "-p", "harness.real.first_cases", *(f"tests/unit/{name}" for name in FOLDERS)) as command:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    assert done.returncode == 0, "\n".join([*failed, done.stdout[-5000:], done.stderr[-2000:]])

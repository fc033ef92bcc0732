"""The shipped example of Alertmanager's routes, by its own tool."""

import subprocess

from harness.docs.marked import DOCS
from harness.real.parts import real_part

SHIPPED = DOCS.parent / "grafana" / "prometheus" / "alertmanager.yml"


def test_shipped_routes_are_sound_and_call_a_person_for_what_is_critical() -> None:
    amtool = str(real_part("amtool"))
    subprocess.run([amtool, "check-config", str(SHIPPED)], check=True, capture_output=True)
    for severity, name, receiver in (
        ("critical", "GatewaySilent", "on-call"),
        ("warning", "Residual", "office"),
        ("warning", "BacklogOld", "office"),
    ):
        asked = [amtool, "config", "routes", "test", f"--config.file={SHIPPED}"]
        told = subprocess.run(
            [*asked, "alertname=CommonwattUtilityWarning", f"alarm={name}", f"severity={severity}"],
            check=True,
            capture_output=True,
            text=True,
        )
        assert told.stdout.strip() == receiver

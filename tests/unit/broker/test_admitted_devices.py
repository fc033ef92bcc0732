"""The devices a broker admits: read again when the file changed, and no more often."""

from pathlib import Path
from unittest.mock import Mock

import pytest

from broker.admission import admitted_devices as known
from broker.admission.admitted_devices import AdmittedDevices
from broker.metrics import BrokerMetrics
from commonwatt.identity.devices import Device, Role, load_devices, save_devices


def test_a_damaged_file_is_not_read_again_for_everybody_who_knocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, reading = tmp_path / "devices.json", Mock(side_effect=load_devices)
    monkeypatch.setattr(known, "load_devices", reading)
    device = Device(identity="1", role=Role.METER, microgrid="r001", token_sha256="0" * 64)
    save_devices(path, [device])
    devices = AdmittedDevices(path, BrokerMetrics())
    devices.load()
    path.write_text("{ not json")
    for _ in range(10):
        assert devices.refreshed() == {"1": device}
    assert reading.call_count == 2
    # It may be readable without having changed, so that somebody has to try.
    assert devices.refreshed(anew=True) == {"1": device}
    assert reading.call_count == 3
    save_devices(path, [])
    assert devices.refreshed() == {}
    assert devices.metrics.value("commonwatt_broker_devices_file_errors_total") == 2

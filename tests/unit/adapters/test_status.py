"""Rights to read an adapter's status."""

import pytest

from adapters.status import refuse_others
from commonwatt.config.adapter import AdapterSettings
from commonwatt.network.http_pages import Request


@pytest.mark.parametrize(
    ("path", "address", "refused"),
    [
        ("/status", "10.1.0.77", True),
        ("/status", "fe80::1%eth0", True),
        ("/status", "127.0.0.1", False),
        ("/status", "::1", False),
        ("/status", "10.1.0.1", False),
        ("/metrics", "10.1.0.77", False),
    ],
)
def test_the_meters_values_are_not_shown_beyond_the_adapters_machine(path: str, address: str, *, refused: bool) -> None:
    settings = AdapterSettings.model_validate({"microgrid": "r001", "http": "10.1.0.1:9102", "http_plain_text": True})
    answer = refuse_others(settings, Request(method="GET", path=path, address=address, headers={}))
    assert (answer is not None and answer.status == 403) == refused


def test_nothing_can_be_sent() -> None:
    settings = AdapterSettings.model_validate({"microgrid": "r001", "http": "127.0.0.1:9102"})
    answer = refuse_others(settings, Request(method="POST", path="/metrics", address="127.0.0.1", headers={}))
    assert answer is not None
    assert answer.status == 405

"""A microgrid's broker that requires certificates accepts those that have ended, and the head-end's does not."""

from typing import Any, cast

import pytest

from commonwatt.site.file import SiteMicrogrid
from commonwatt.site.places import _controller_files

CERTIFICATES = {"clients_ca": "ca.pem", "clients_revoked": "revoked.pem"}


@pytest.mark.parametrize(
    ("broker", "days"),
    [({}, None), (CERTIFICATES, 180), (CERTIFICATES | {"clients_ended_days": 0}, 0)],
)
def test_site_init_lets_a_microgrid_go_on_without_the_utility(broker: dict[str, Any], days: int | None) -> None:
    table = SiteMicrogrid.model_construct(id="r", kind="residential", broker=broker, gateway={}, lines=(), adapter=None)
    file, _ = _controller_files("r001", table, 0, {}, cast("Any", None))
    assert (file.part, file.keys.get("clients_ended_days")) == ("broker", days)

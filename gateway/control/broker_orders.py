"""The orders of brokers that the utility assigned to meters (A1): the manager names them in ``initialize``."""

import json
from collections.abc import Mapping

from commonwatt.model.effects import Effect, Write
from commonwatt.model.ids import MeterId
from commonwatt.model.units import ControllerId, MicrogridId
from gateway.changes import Change, Setting
from gateway.stored import KeptSettings

_SETTING = "broker_orders"

Order = tuple[ControllerId, ...]


class BrokerOrders:
    """The assigned orders of the meters of one microgrid."""

    def __init__(self, microgrid: MicrogridId, store: KeptSettings) -> None:
        kept = store.setting(_SETTING)
        self._of: dict[MeterId, Order] = {int(meter): tuple(names) for meter, names in json.loads(kept or "{}").items()}
        self._is_known = kept is not None
        self._microgrid = microgrid

    def set(self, orders: Mapping[MeterId, Order]) -> tuple[list[Effect[Change]], set[MeterId]]:
        """Keep the orders in place of those before; return the writes, and the meters whose order changed."""
        changed = {meter for meter in orders.keys() | self._of if orders.get(meter) != self._of.get(meter)}
        self._of, self._is_known = dict(orders), True
        kept = {str(meter): names for meter, names in sorted(self._of.items())}
        return [Write(Setting(_SETTING, json.dumps(kept)))], changed

    def of(self, meter: MeterId, of_manager: Order | None) -> Order | None:
        """Return the order for a meter; empty: as installed, ``None``: nothing is said of it.

        Args:
            of_manager: The order so that meters reach the manager; empty: it is their own controller, ``None``: the
                microgrid has no other manager.
        """
        own = self._of.get(meter, ())
        if of_manager:
            # Home is lost. A meter whose data goes elsewhere needs no other broker.
            return own if own and own[0] != self._microgrid else of_manager
        return own if of_manager is not None or self._is_known else None

"""Who manages the microgrids, as metrics; read at each scrape."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from prometheus_client.metrics_core import Metric

from commonwatt.clique.messages import REFUSED
from commonwatt.model.units import ControllerId, MicrogridId
from commonwatt.protocol.commands import Epoch
from commonwatt.runtime.metric_families import MetricRow, counter, families, gauge
from utility.cliques.cliques import Cliques
from utility.cliques.grants import HOWS
from utility.database.metrics import PREFIX


class _State(NamedTuple):
    groups: Cliques
    refused: Mapping[str, int]
    managers: Mapping[MicrogridId, tuple[ControllerId, Epoch]]
    unmanaged: Mapping[MicrogridId, float]
    stopped: Collection[ControllerId]


_ROWS: tuple[MetricRow[_State], ...] = (
    gauge("managed_microgrids", "Microgrids that a controller manages, by controller.", lambda s: _managed(s),
          "controller"),
    gauge("managed_by_another", "1 while another controller manages the microgrid of this one.",
          lambda s: {name: s.managers.get(name, (name,))[0] != name for name in s.groups.orders}, "controller"),
    gauge("unmanaged_seconds",
          "Seconds for which no controller that can command this one's microgrid was heard; 0: one is.",
          lambda s: {name: s.unmanaged.get(name, 0.0) for name in s.groups.orders}, "controller"),
    gauge("clique_stopped",
          "1 while the clique of this controller does nothing, since the rules of takeover failed there.",
          lambda s: {name: name in s.stopped for name in s.groups.firsts}, "controller"),
    counter("handovers", "Times that this one's microgrid got another manager.",
            lambda s: {name: s.groups.moves[name] for name in s.groups.orders}, "controller"),
    counter("takeovers", "Epochs that the utility adopted: began, renewed by the manager, granted, claimed, returned.",
            lambda s: {how: s.groups.handovers[how] for how in HOWS}, "how"),
    counter("refused_datagrams",
            "Datagrams of controllers that were dropped, such as recorded ones that came again, by reason.",
            lambda s: dict.fromkeys(REFUSED, 0) | dict(s.refused), "reason"),
    counter("false_takeovers", "Managers that were replaced as lost, and lived.", lambda s: s.groups.false_takeovers),
)  # fmt: skip


def _managed(state: _State) -> dict[str, int]:
    counts = Counter(controller for controller, _ in state.managers.values())
    return {name: counts[name] for name in sorted({name for order in state.groups.orders.values() for name in order})}


def takeover_metrics(groups: Cliques, refused: Mapping[str, int], now: float) -> Iterator[Metric]:
    """Yield the managers of now, and the counts since the start.

    Args:
        refused: Counts of the datagrams that were dropped, by reason.
        now: The time of the groups' clock.
    """
    state = _State(groups, refused, groups.managers(), groups.unmanaged(now), groups.stopped(now))
    yield from families(PREFIX, _ROWS, state)

"""Who manages the microgrids, as metrics; read at each scrape."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from commonwatt.protocol.clique_datagrams import REFUSED
from utility.database.metrics import PREFIX
from utility.takeover.groups import Groups
from utility.takeover.history import HOWS


class TakeoverMetrics(Collector):
    """Collector of the groups' state.

    Args:
        refused: Counts of the datagrams that were dropped, by reason.
        time: Returns the time of the groups' clock.
    """

    def __init__(self, groups: Groups, refused: Mapping[str, int], time: Callable[[], float]) -> None:
        self._groups, self._refused, self._time = groups, refused, time

    def collect(self) -> Iterable[Metric]:
        """Yield the managers of now, and the counts since the start."""
        groups = self._groups
        managers, unmanaged = groups.managers(), groups.unmanaged(self._time())
        text = "Microgrids that a controller manages, by controller."
        counts = Counter(controller for controller, _ in managers.values())
        members = sorted({name for order in groups.orders.values() for name in order})
        yield _gauge("managed_microgrids", text, {name: counts[name] for name in members})
        text = "1 while another controller manages the microgrid of this one."
        others = {name: float(managers.get(name, (name,))[0] != name) for name in groups.orders}
        yield _gauge("managed_by_another", text, others)
        text = "Seconds for which no controller that can command this one's microgrid was heard; 0: one is."
        yield _gauge("unmanaged_seconds", text, {name: unmanaged.get(name, 0.0) for name in groups.orders})
        text = "1 while the clique of this controller does nothing, since the rules of takeover failed there."
        stopped = groups.stopped(self._time())
        yield _gauge("clique_stopped", text, {name: float(name in stopped) for name in groups.firsts})
        text = "Times that this one's microgrid got another manager."
        moves = CounterMetricFamily(f"{PREFIX}_handovers", text, labels=["controller"])
        for name in groups.orders:
            moves.add_metric([name], groups.moves[name])
        yield moves
        text = "Epochs that the utility adopted: began, renewed by the manager, granted, claimed, returned."
        takeovers = CounterMetricFamily(f"{PREFIX}_takeovers", text, labels=["how"])
        for how in HOWS:
            takeovers.add_metric([how], groups.handovers[how])
        yield takeovers
        text = "Datagrams of controllers that were dropped, such as recorded ones that came again, by reason."
        refused = CounterMetricFamily(f"{PREFIX}_refused_datagrams", text, labels=["reason"])
        for reason in {*REFUSED, *self._refused}:
            refused.add_metric([reason], self._refused.get(reason, 0))
        yield refused
        text = "Managers that were replaced as lost, and lived."
        yield CounterMetricFamily(f"{PREFIX}_false_takeovers", text, value=groups.false_takeovers)


def _gauge(name: str, text: str, values: dict[str, float]) -> Metric:
    family = GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=["controller"])
    for controller, value in values.items():
        family.add_metric([controller], value)
    return family

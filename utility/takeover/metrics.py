"""Who manages the microgrids, as metrics; read at each scrape."""

from collections import Counter
from collections.abc import Iterator, Mapping

from prometheus_client.metrics_core import CounterMetricFamily, Metric

from commonwatt.protocol.clique_datagrams import REFUSED
from utility.database.metrics import PREFIX, counters_by, gauges_by
from utility.takeover.groups import Groups
from utility.takeover.history import HOWS


def takeover_metrics(groups: Groups, refused: Mapping[str, int], now: float) -> Iterator[Metric]:
    """Yield the managers of now, and the counts since the start.

    Args:
        refused: Counts of the datagrams that were dropped, by reason.
        now: The time of the groups' clock.
    """
    managers, unmanaged, stopped = groups.managers(), groups.unmanaged(now), groups.stopped(now)
    text = "Microgrids that a controller manages, by controller."
    counts = Counter(controller for controller, _ in managers.values())
    members = sorted({name for order in groups.orders.values() for name in order})
    yield gauges_by("managed_microgrids", text, {name: counts[name] for name in members}, "controller")
    text = "1 while another controller manages the microgrid of this one."
    others = {name: managers.get(name, (name,))[0] != name for name in groups.orders}
    yield gauges_by("managed_by_another", text, others, "controller")
    text = "Seconds for which no controller that can command this one's microgrid was heard; 0: one is."
    lost = {name: unmanaged.get(name, 0.0) for name in groups.orders}
    yield gauges_by("unmanaged_seconds", text, lost, "controller")
    text = "1 while the clique of this controller does nothing, since the rules of takeover failed there."
    yield gauges_by("clique_stopped", text, {name: name in stopped for name in groups.firsts}, "controller")
    text = "Times that this one's microgrid got another manager."
    yield counters_by("handovers", text, {name: groups.moves[name] for name in groups.orders}, "controller")
    text = "Epochs that the utility adopted: began, renewed by the manager, granted, claimed, returned."
    yield counters_by("takeovers", text, {how: groups.handovers[how] for how in HOWS}, "how")
    text = "Datagrams of controllers that were dropped, such as recorded ones that came again, by reason."
    dropped = {reason: refused.get(reason, 0) for reason in {*REFUSED, *refused}}
    yield counters_by("refused_datagrams", text, dropped, "reason")
    text = "Managers that were replaced as lost, and lived."
    yield CounterMetricFamily(f"{PREFIX}_false_takeovers", text, value=groups.false_takeovers)

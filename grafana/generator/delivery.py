"""The dashboard *delivery*: do all readings arrive at the utility, and if not, where do they wait?"""

from grafana.generator.panel_kinds import (
    AGE,
    COUNT,
    FREE,
    GREEN,
    HEARD_BEFORE,
    NONE_WANTED,
    ORANGE,
    RED,
    SILENT_S,
    WAITS,
    Dashboard,
    Look,
    Query,
    Section,
    graph,
    none_or,
    stat,
    table,
)

_HEARD = "commonwatt_utility_gateway_last_seen_seconds"
_BACKLOG = "commonwatt_utility_gateway_backlog"
_COMMITS = "sum by (le) (rate(commonwatt_utility_commit_seconds_bucket[$__rate_interval]))"
_SHARE = Look("percentunit", steps=((1, RED),), high=1)


def _share(of: str) -> str:
    """Return the query for each controller's share of its allowance, in the direction with the larger share."""
    allowed = "on (instance, controller) group_left () commonwatt_utility_lte_allowance_bytes"
    return f"max by (controller) (commonwatt_utility_lte_{of}_bytes / {allowed})"


_NOW = Section(
    "",
    [
        stat(
            "Alerts firing",
            "Each alert links its runbook (the utility's page /runbooks). Start with the alert nearest to the utility.",
            Query('count(ALERTS{alertname=~"Commonwatt.+",alertstate="firing"}) or vector(0)'),
            look=NONE_WANTED,
        ),
        stat(
            "Gateways silent",
            "No message for five minutes. The table below shows which gateways. Check their power, line and process.",
            Query(f"count({_HEARD} > {SILENT_S}) or vector(0)"),
            look=NONE_WANTED,
        ),
        stat(
            "Gateways",
            "Gateways that sent a message at any time, and registered gateways. The difference was never in service.",
            Query("count(commonwatt_utility_gateway_clock_trusted)", "heard"),
            Query("sum(commonwatt_utility_gateways)", "registered"),
        ),
        stat(
            "Oldest waiting",
            "How long the oldest readings have waited at a gateway for the utility. Orange after half an hour: check "
            "whether that gateway is connected, and whether its batches are refused.",
            Query(f"max({_BACKLOG}_age_seconds)"),
            look=WAITS,
        ),
        stat(
            "Waiting",
            "Parts, events and dead letters not acknowledged by the utility. Some always wait; the sum must not grow.",
            Query(f"sum({_BACKLOG})"),
        ),
        stat(
            "Incomplete",
            "Quarter-hours of a meter with missing readings, which the utility requests from gateways. List them: "
            "commonwatt utility gaps.",
            Query("sum(commonwatt_utility_gaps_open_blocks)"),
            look=Look(decimals=0, steps=((1, ORANGE),)),
        ),
        stat(
            "Quarantined",
            "Quarantined readings that wait for a decision: commonwatt utility dead-letters --state quarantined.",
            Query("sum(commonwatt_utility_quarantined_open_dead_letters)"),
            look=Look(decimals=0, steps=((1, ORANGE),)),
        ),
        stat(
            "Conflicts",
            "Slots with different values of the same quality. Find the sender: commonwatt utility conflicts.",
            Query("sum(commonwatt_utility_conflicting_slots)"),
            look=NONE_WANTED,
        ),
    ],
)

_FLOW = Section(
    "On the way",
    [
        graph(
            "Readings stored per second",
            "Readings that the utility commits; repeated ones count again. If it drops to 0, check its connection.",
            Query("sum(rate(commonwatt_utility_slots_total[$__rate_interval]))", "readings"),
        ),
        graph(
            "Waiting at gateways, the ten largest",
            "Each relay makes a saw-tooth. A curve that keeps rising is a gateway that can't deliver.",
            Query(f"topk(10, sum by (controller) ({_BACKLOG}))", "{{controller}}"),
            look=COUNT,
        ),
        graph(
            "Time since each gateway's last message, the ten longest",
            "A gateway sends a message about every 20 seconds. Above the dashed line it is silent: check its power and "
            "line.",
            Query(f"topk(10, {_HEARD})", "{{controller}}"),
            look=HEARD_BEFORE,
        ),
    ],
)

_GATEWAYS = Section(
    "Gateways",
    [
        table(
            "Gateways, the longest silent first",
            "From each gateway's last heartbeat. A gateway that never sent one only has the time that the utility has "
            "waited for it. Click a heading to sort. The dashboards microgrid and gateway show one gateway.",
            "controller",
            [
                (
                    "heard before",
                    Query(f"max by (controller) ({_HEARD})"),
                    HEARD_BEFORE,
                ),
                ("oldest waiting", Query(f"max by (controller) ({_BACKLOG}_age_seconds)"), WAITS),
                ("waiting", Query(f"sum by (controller) ({_BACKLOG})"), COUNT),
                (
                    "clock",
                    Query("min by (controller) (commonwatt_utility_gateway_clock_trusted)"),
                    Look(words={0: "untrusted", 1: "trusted"}, steps=((1, GREEN),), base=ORANGE),
                ),
                ("LTE used", Query(_share("month")), _SHARE),
                ("LTE expected", Query(_share("forecast")), _SHARE),
            ],
            "heard before",
        ),
    ],
)

_LINES = Section(
    "LTE lines",
    [
        graph(
            "Expected by the month's end, share of the allowance, the ten highest",
            "Above the dashed line the plan is too small: relay less often, aggregate, or buy a larger plan "
            "(docs/lte.md).",
            Query(f"topk(10, {_share('forecast')})", "{{controller}}"),
            look=_SHARE,
            width=12,
        ),
        graph(
            "Used this month, share of the allowance, the ten highest",
            "The direction with the larger share. At the dashed line the plan is used up.",
            Query(f"topk(10, {_share('month')})", "{{controller}}"),
            look=_SHARE,
            width=12,
        ),
    ],
)

_UTILITY = Section(
    "At the utility",
    [
        graph(
            "Messages per second, by result",
            "stored, seen and outcome are good. Senders repeat dropped, store_error and disk_full; see the log.",
            Query("sum by (result) (rate(commonwatt_utility_messages_total[$__rate_interval])) > 0", "{{result}}"),
            stacked=True,
        ),
        graph(
            "Batches refused within an hour, by reason",
            "For example a meter that is not registered, or registered elsewhere. Find it on /status and register it.",
            Query(none_or("sum by (reason) (increase(commonwatt_utility_refusals_total[1h]))", "reason"), "{{reason}}"),
            look=COUNT,
        ),
        graph(
            "Time to commit",
            "Time from the queue to the disk. Above a second the disk, or the database server, is too slow.",
            Query(f"histogram_quantile(0.5, {_COMMITS})", "median"),
            Query(f"histogram_quantile(0.99, {_COMMITS})", "99 %"),
            look=Look("s", steps=((1, RED),)),
        ),
        graph(
            "Incomplete quarters",
            "It rises after an outage and falls again. If it only rises, a meter or a gateway does not answer.",
            Query("commonwatt_utility_gaps_open_blocks", "requested"),
            look=COUNT,
        ),
        graph(
            "New dead letters within an hour",
            "Records and messages not accepted, and quarantined readings: commonwatt utility dead-letters --counts.",
            Query("sum(increase(commonwatt_utility_dead_letters_total[1h]))", "all"),
            Query("sum(increase(commonwatt_utility_quarantined_dead_letters_total[1h]))", "quarantined"),
            look=COUNT,
        ),
        graph(
            "Messages waiting to be committed",
            "When the queue is full, messages are dropped and sent again. If it stays high, the database is too slow.",
            Query("commonwatt_utility_queue_messages", "waiting"),
            look=COUNT,
        ),
    ],
)

_MACHINE = Section(
    "The utility's machine",
    [
        stat(
            "Head-end",
            "The utility's connection to the head-end. Off: no message arrives; see CommonwattUtilityDisconnected.",
            Query("min(commonwatt_utility_head_end_connected)"),
            look=Look(words={0: "off", 1: "on"}, steps=((1, GREEN),), base=RED),
        ),
        stat(
            "Clock",
            "Trusted: NTP keeps the utility's clock, and gateways take their time from it.",
            Query("min(commonwatt_utility_clock_trusted)"),
            look=Look(words={0: "untrusted", 1: "trusted"}, steps=((1, GREEN),), base=ORANGE),
        ),
        stat(
            "Alarms",
            "store_damaged: run commonwatt utility recover. disk_full: free disk space.",
            Query("sum(commonwatt_utility_alarm)"),
            look=NONE_WANTED,
        ),
        stat(
            "Jobs failed, 24 h",
            "Failed jobs, such as joining parts and finding gaps. They run again at the next tick; see the log.",
            Query("sum(increase(commonwatt_utility_job_failures_total[24h]))"),
            look=Look(decimals=0, steps=((1, ORANGE),)),
        ),
        stat(
            "Running for",
            "Time since the start of the utility's process.",
            Query('time() - max(process_start_time_seconds{part="utility"})'),
            look=AGE,
        ),
        stat(
            "Memory",
            "Memory of the utility's process. It should stay level for days.",
            Query('sum(process_resident_memory_bytes{part="utility"})'),
            look=Look("bytes", decimals=0),
        ),
        stat(
            "Disk free",
            "Free share of the disk with the SQLite database; the disk of a database server is not measured. If it is "
            "nearly full, free disk space, or set keep_months.",
            Query("min(commonwatt_utility_disk_free_bytes / commonwatt_utility_disk_size_bytes)"),
            look=FREE,
        ),
        stat(
            "Parts down",
            "Processes that don't answer Prometheus; its page Status, Targets shows which.",
            Query('count(up{part=~"adapter|broker|gateway|meters|utility"} == 0) or vector(0)'),
            look=NONE_WANTED,
        ),
    ],
)

DELIVERY = Dashboard(
    "delivery",
    "Commonwatt delivery",
    "Do all readings arrive at the utility, and if not, where do they wait?",
    [_NOW, _FLOW, _GATEWAYS, _LINES, _UTILITY, _MACHINE],
)

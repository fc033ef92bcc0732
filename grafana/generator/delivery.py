"""The dashboard *delivery*: does everything that was measured arrive, and if not, where is it?"""

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
    """Return the share of its allowance, of the direction with the larger, for each controller."""
    allowed = "on (instance, controller) group_left () commonwatt_utility_lte_allowance_bytes"
    return f"max by (controller) (commonwatt_utility_lte_{of}_bytes / {allowed})"


_NOW = Section(
    "",
    [
        stat(
            "Alerts firing",
            "Each alert names its runbook (the utility's page /runbooks). Begin with the one nearest to the utility.",
            Query('count(ALERTS{alertname=~"Commonwatt.+",alertstate="firing"}) or vector(0)'),
            look=NONE_WANTED,
        ),
        stat(
            "Gateways silent",
            "Not heard for five minutes. See the table below for which; then their power, line, and process.",
            Query(f"count({_HEARD} > {SILENT_S}) or vector(0)"),
            look=NONE_WANTED,
        ),
        stat(
            "Gateways",
            "Heard at any time, and registered. The difference was never put into service.",
            Query("count(commonwatt_utility_gateway_clock_trusted)", "heard"),
            Query("sum(commonwatt_utility_gateways)", "registered"),
        ),
        stat(
            "Oldest that waits",
            "How long the oldest readings have waited at a gateway for the utility. Orange after half an hour: is that "
            "gateway connected, is it refused?",
            Query(f"max({_BACKLOG}_age_seconds)"),
            look=WAITS,
        ),
        stat(
            "Waiting",
            "Parts, events and dead letters that the utility has not acknowledged. Some always are; it must not grow.",
            Query(f"sum({_BACKLOG})"),
        ),
        stat(
            "Incomplete",
            "Quarter-hours of a meter with missing readings that gateways are asked for. List them: commonwatt "
            "utility gaps.",
            Query("sum(commonwatt_utility_gaps_open_blocks)"),
            look=Look(decimals=0, steps=((1, ORANGE),)),
        ),
        stat(
            "Letters held",
            "Readings that wait for a person: commonwatt utility dead-letters --state quarantined.",
            Query("sum(commonwatt_utility_quarantined_open_dead_letters)"),
            look=Look(decimals=0, steps=((1, ORANGE),)),
        ),
        stat(
            "Conflicts",
            "Readings for which two values came. Find the device: commonwatt utility conflicts.",
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
            "What the utility commits; what is sent again counts again. A drop to nothing: is it connected?",
            Query("sum(rate(commonwatt_utility_slots_total[$__rate_interval]))", "readings"),
        ),
        graph(
            "Waiting at gateways, the ten most",
            "Saw-teeth are the relays. A line that climbs is a gateway that can't deliver.",
            Query(f"topk(10, sum by (controller) ({_BACKLOG}))", "{{controller}}"),
            look=COUNT,
        ),
        graph(
            "Since each gateway was heard, the ten longest",
            "Each says something about every 20 seconds. Beyond the line it is silent.",
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
            "As each said last; one never heard has nothing but how long the utility waits for it. Click a heading to "
            "sort by it. The dashboards microgrid and gateway show one of them.",
            "controller",
            [
                (
                    "heard before",
                    Query(f"max by (controller) ({_HEARD})"),
                    HEARD_BEFORE,
                ),
                ("oldest that waits", Query(f"max by (controller) ({_BACKLOG}_age_seconds)"), WAITS),
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
            "Expected by the month's end, of what is allowed, the ten highest",
            "Above the line the plan will not do: relay less often, aggregate, or buy a larger one (docs/lte.md).",
            Query(f"topk(10, {_share('forecast')})", "{{controller}}"),
            look=_SHARE,
            width=12,
        ),
        graph(
            "Used this month, of what is allowed, the ten highest",
            "At the line the plan is used up. The larger of both directions.",
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
            "Messages per second, by what became of them",
            "stored, seen and outcome are good. dropped, store_error and disk_full come again; see the log.",
            Query("sum by (result) (rate(commonwatt_utility_messages_total[$__rate_interval])) > 0", "{{result}}"),
            stacked=True,
        ),
        graph(
            "Batches refused within an hour, by reason",
            "A meter that is not registered, or registered elsewhere: /status names it. Then register it.",
            Query(none_or("sum by (reason) (increase(commonwatt_utility_refusals_total[1h]))", "reason"), "{{reason}}"),
            look=COUNT,
        ),
        graph(
            "Time to commit",
            "From the queue to the disk. Above a second the disk, or the database server, is too slow.",
            Query(f"histogram_quantile(0.5, {_COMMITS})", "half of them within"),
            Query(f"histogram_quantile(0.99, {_COMMITS})", "99 % within"),
            look=Look("s", steps=((1, RED),)),
        ),
        graph(
            "Incomplete quarters",
            "It rises after an outage and falls again. If it only rises, some meter or gateway does not answer.",
            Query("commonwatt_utility_gaps_open_blocks", "being asked for"),
            look=COUNT,
        ),
        graph(
            "New dead letters within an hour",
            "What could not be accepted, and what is held for a person: commonwatt utility dead-letters --counts.",
            Query("sum(increase(commonwatt_utility_dead_letters_total[1h]))", "all"),
            Query("sum(increase(commonwatt_utility_quarantined_dead_letters_total[1h]))", "quarantined"),
            look=COUNT,
        ),
        graph(
            "Messages waiting to be committed",
            "What finds no room is dropped, and comes again. If it stays high, the database is too slow.",
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
            "The utility's own connection. Off: nothing comes in; see CommonwattUtilityDisconnected.",
            Query("min(commonwatt_utility_head_end_connected)"),
            look=Look(words={0: "off", 1: "on"}, steps=((1, GREEN),), base=RED),
        ),
        stat(
            "Clock",
            "Whether NTP keeps its clock, so that gateways take the time from it.",
            Query("min(commonwatt_utility_clock_trusted)"),
            look=Look(words={0: "untrusted", 1: "trusted"}, steps=((1, GREEN),), base=ORANGE),
        ),
        stat(
            "Alarms",
            "store_damaged: run commonwatt utility recover. disk_full: make room.",
            Query("sum(commonwatt_utility_alarm)"),
            look=NONE_WANTED,
        ),
        stat(
            "Jobs failed, 24 h",
            "Joining parts and looking for gaps. A failed one is done again at the next tick; see the log.",
            Query("sum(increase(commonwatt_utility_job_failures_total[24h]))"),
            look=Look(decimals=0, steps=((1, ORANGE),)),
        ),
        stat(
            "Running for",
            "Since the utility's process was started.",
            Query('time() - max(process_start_time_seconds{part="utility"})'),
            look=AGE,
        ),
        stat(
            "Memory",
            "Of the utility's process. It should stay level for days.",
            Query('sum(process_resident_memory_bytes{part="utility"})'),
            look=Look("bytes", decimals=0),
        ),
        stat(
            "Disk free",
            "Of a SQLite database; a server's disk is not seen from here. The utility deletes nothing.",
            Query("min(commonwatt_utility_disk_free_bytes / commonwatt_utility_disk_size_bytes)"),
            look=FREE,
        ),
        stat(
            "Parts down",
            "Processes that don't answer Prometheus: Status, Targets, there says which.",
            Query('count(up{part=~"broker|gateway|meters|utility"} == 0) or vector(0)'),
            look=NONE_WANTED,
        ),
    ],
)

DELIVERY = Dashboard(
    "delivery",
    "Commonwatt delivery",
    "Does everything that was measured arrive at the utility, and if not, where is it?",
    [_NOW, _FLOW, _GATEWAYS, _LINES, _UTILITY, _MACHINE],
)

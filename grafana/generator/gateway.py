"""The dashboard *gateway*: the state of one controller: its processes, disk, clock and connections."""

from grafana.generator.panel_kinds import (
    AGE,
    COUNT,
    FREE,
    GREEN,
    NONE_WANTED,
    ORANGE,
    RED,
    Dashboard,
    Look,
    Query,
    Section,
    choice,
    graph,
    stat,
    states,
)

_HERE = 'place="$microgrid"'
_GATEWAY = f'{_HERE},part="gateway"'
_BOTH = f'{_HERE},part=~"gateway|broker"'
_TRUST = (
    f'commonwatt_gateway_time_trust{{{_HERE},trust="meters"}}'
    f' or commonwatt_gateway_time_trust{{{_HERE},trust="hardware"}} * 2'
    f' or commonwatt_gateway_time_trust{{{_HERE},trust="network"}} * 3'
)
_ALLOWED = Query(f"commonwatt_gateway_lte_allowance_bytes{{{_HERE}}}", "allowed")
_FAULTS = (
    ("stuck", f'sum(increase({{__name__=~"commonwatt_(gateway|broker)_stuck_total",{_HERE}}}[1h]))'),
    (
        "errors in the program",
        f'sum(increase({{__name__=~"commonwatt_(gateway|broker)_unhandled_exceptions_total",{_HERE}}}[1h]))',
    ),
    ("store failures", f"sum(increase(commonwatt_gateway_store_failures_total{{{_HERE}}}[1h]))"),
    ("damaged rows", f"sum(increase(commonwatt_gateway_damaged_rows_total{{{_HERE}}}[1h]))"),
)

_NOW = Section(
    "",
    [
        stat(
            "Connections",
            "There are two: to its meters' broker and to the head-end. The gateway's log gives the cause of a failure.",
            Query(f"min(commonwatt_gateway_connections{{{_HERE}}})"),
            look=Look(decimals=0, words={0: "none", 1: "one of two", 2: "both"}, steps=((2, GREEN),), base=RED),
        ),
        stat(
            "Waiting",
            "Parts, events and dead letters that the utility has not acknowledged.",
            Query(f"sum(commonwatt_gateway_backlog{{{_HERE}}})"),
        ),
        stat(
            "Records refused",
            "Yes: the disk is too full to store records. Free disk space; never delete the store.",
            Query(f"max(commonwatt_gateway_refusing_records{{{_HERE}}})"),
            look=Look(decimals=0, words={0: "no", 1: "yes"}, steps=((1, RED),)),
        ),
        stat(
            "Disk free",
            "Below a tenth, find what fills the disk, or set a smaller backup_bytes.",
            Query(
                f"min(commonwatt_gateway_disk_free_bytes{{{_HERE}}} / commonwatt_gateway_disk_size_bytes{{{_HERE}}})"
            ),
            look=FREE,
        ),
        stat(
            "Trusted time",
            "The source of the gateway's time. With none, or only meters, connect the utility or set up NTP.",
            Query(f"max({_TRUST})"),
            look=Look(
                decimals=0,
                words={0: "none", 1: "meters", 2: "hardware", 3: "network"},
                steps=((2, GREEN),),
                base=ORANGE,
            ),
        ),
        stat(
            "Damaged stores",
            "Damaged stores kept beside the one in use. Check the disk; move them away when no longer needed.",
            Query(f"max(commonwatt_gateway_damaged_stores{{{_HERE}}})"),
            look=NONE_WANTED,
        ),
        stat(
            "Certificate",
            "Time until the first certificate expires; empty without TLS. commonwatt enroll renew makes a new one.",
            Query(f"min(commonwatt_gateway_certificate_expiry_timestamp_seconds{{{_HERE}}}) - time()"),
            look=Look("s", decimals=0, steps=((14 * 86_400, GREEN),), base=RED),
        ),
        stat(
            "Running for",
            "Time since the start of the gateway's process. If it is short again and again, see the gateway's log.",
            Query(f"time() - max(process_start_time_seconds{{{_GATEWAY}}})"),
            look=AGE,
        ),
    ],
)

_RELAY = Section(
    "To the utility",
    [
        graph(
            "Waiting, by kind",
            "Data not acknowledged by the utility. Each relay makes a saw-tooth; a rise is an outage or a refusal.",
            Query(f"sum by (kind) (commonwatt_gateway_backlog{{{_HERE}}})", "{{kind}}"),
            look=COUNT,
            stacked=True,
        ),
        graph(
            "Batches a minute, by result",
            "expired: no answer; the line or the utility is slow. refused: the utility's /status gives the reason.",
            Query(
                f"sum by (result) (rate(commonwatt_gateway_batches_total{{{_HERE}}}[$__rate_interval])) * 60",
                "{{result}}",
            ),
        ),
        graph(
            "Connections",
            "There are two. If one comes and goes, check the line and the certificate.",
            Query(f"sum(commonwatt_gateway_connections{{{_HERE}}})", "up"),
            Query(
                f"sum(increase(commonwatt_gateway_link_restarts_total{{{_HERE}}}[1h])) or vector(0)", "restarts, 1 h"
            ),
            look=Look(decimals=0, high=3),
        ),
    ],
)

_LINE = Section(
    "LTE line",
    [
        graph(
            "Bytes per second",
            "IP bytes of the last five minutes. If they rise and stay high, something is sent again and again.",
            Query(
                f"sum by (side, direction) (rate(commonwatt_gateway_lte_bytes_total{{{_HERE}}}[5m]))",
                "{{side}} {{direction}}",
            ),
            look=Look("Bps"),
        ),
        graph(
            "This month",
            "Bytes this month, and the plan's allowance, in each direction.",
            Query(f"commonwatt_gateway_lte_month_bytes{{{_HERE}}}", "{{direction}}"),
            _ALLOWED,
            look=Look("decbytes"),
        ),
        graph(
            "Expected by the month's end",
            "Forecast from the last seven days; empty in the first hour. Above the allowance: see docs/lte.md.",
            Query(f"commonwatt_gateway_lte_forecast_bytes{{{_HERE}}}", "{{direction}}"),
            _ALLOWED,
            look=Look("decbytes"),
        ),
    ],
)

_STORE = Section(
    "Store",
    [
        graph(
            "Disk",
            "The store keeps a backup of up to backup_bytes; the free space is the reserve for an outage.",
            Query(f"commonwatt_gateway_store_used_bytes{{{_HERE}}}", "in the store"),
            Query(f"commonwatt_gateway_disk_free_bytes{{{_HERE}}}", "free"),
            look=Look("bytes"),
        ),
        graph(
            "Commits per second",
            "Durable transactions of the store, per second.",
            Query(f"rate(commonwatt_gateway_commits_total{{{_HERE}}}[$__rate_interval])", "commits"),
        ),
        graph(
            "Faults within an hour",
            "All should be 0. The logs have the details; the utility's page /runbooks has the remedies.",
            *(Query(expr, name) for name, expr in _FAULTS),
            look=COUNT,
        ),
    ],
)

_PROCESSES = Section(
    "Processes and clock",
    [
        graph(
            "Processor",
            "Share of one core. A controller has one core: more than half of it for long is too much.",
            Query(f"rate(process_cpu_seconds_total{{{_BOTH}}}[$__rate_interval])", "{{part}}"),
            look=Look("percentunit"),
        ),
        graph(
            "Memory",
            "It should stay level. If it rises for days, please report it.",
            Query(f"process_resident_memory_bytes{{{_BOTH}}}", "{{part}}"),
            look=Look("bytes"),
        ),
        states(
            "Trusted time",
            "The source of the gateway's time. Without the utility and NTP it is the hardware clock for some days.",
            Query(f"max by (place) ({_TRUST})", "{{place}}"),
            {0: ("none", RED), 1: ("meters", ORANGE), 2: ("hardware", "yellow"), 3: ("network", GREEN)},
        ),
    ],
)

GATEWAY = Dashboard(
    "gateway",
    "Commonwatt gateway",
    "The state of one microgrid's controller: its processes, disk, clock and connections.",
    [_NOW, _RELAY, _LINE, _STORE, _PROCESSES],
    [choice("microgrid", "Microgrid", "commonwatt_gateway_commits_total, place")],
)

"""The dashboard *gateway*: is the controller of one microgrid well, its processes, disk, clock and connections?"""

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
            "Of two: to its meters' broker and to the head-end. Its log says why one is missing.",
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
            "Whether its disk is so full that it takes no records in. Make room; never delete the store.",
            Query(f"max(commonwatt_gateway_refusing_records{{{_HERE}}})"),
            look=Look(decimals=0, words={0: "no", 1: "yes"}, steps=((1, RED),)),
        ),
        stat(
            "Disk free",
            "Below a tenth see what fills it, or set a smaller backup_bytes.",
            Query(
                f"min(commonwatt_gateway_disk_free_bytes{{{_HERE}}} / commonwatt_gateway_disk_size_bytes{{{_HERE}}})"
            ),
            look=FREE,
        ),
        stat(
            "Trusted time",
            "Whose word the time is. With none, or the meters' alone, connect it or let NTP keep its clock.",
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
            "Kept beside the one in use. Look at the disk; move them away when they are no longer needed.",
            Query(f"max(commonwatt_gateway_damaged_stores{{{_HERE}}})"),
            look=NONE_WANTED,
        ),
        stat(
            "Certificate",
            "Time left of the first that expires; empty without TLS. commonwatt enroll renew makes a new one.",
            Query(f"min(commonwatt_gateway_certificate_expiry_timestamp_seconds{{{_HERE}}}) - time()"),
            look=Look("s", decimals=0, steps=((14 * 86_400, GREEN),), base=RED),
        ),
        stat(
            "Running for",
            "Since the gateway's process was started. Often short: it is started again and again; see its log.",
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
            "What the utility has not acknowledged. Saw-teeth are the relays; a climb is an outage, or a refusal.",
            Query(f"sum by (kind) (commonwatt_gateway_backlog{{{_HERE}}})", "{{kind}}"),
            look=COUNT,
            stacked=True,
        ),
        graph(
            "Batches a minute, by what became of them",
            "expired: no answer came; the line or the utility is slow. refused: /status of the utility says why.",
            Query(
                f"sum by (result) (rate(commonwatt_gateway_batches_total{{{_HERE}}}[$__rate_interval])) * 60",
                "{{result}}",
            ),
        ),
        graph(
            "Connections",
            "Of two. A line that flickers is a bad line, or a certificate that expires.",
            Query(f"sum(commonwatt_gateway_connections{{{_HERE}}})", "up"),
            Query(
                f"sum(increase(commonwatt_gateway_link_restarts_total{{{_HERE}}}[1h])) or vector(0)", "given up, 1 h"
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
            "What was carried, and what the plan allows each way.",
            Query(f"commonwatt_gateway_lte_month_bytes{{{_HERE}}}", "{{direction}}"),
            _ALLOWED,
            look=Look("decbytes"),
        ),
        graph(
            "Expected by the month's end",
            "By the last seven days; empty until an hour was counted. Above what is allowed: see docs/lte.md.",
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
            "The store keeps a backup of up to backup_bytes; what is free beyond is the reserve for an outage.",
            Query(f"commonwatt_gateway_store_used_bytes{{{_HERE}}}", "in the store"),
            Query(f"commonwatt_gateway_disk_free_bytes{{{_HERE}}}", "free"),
            look=Look("bytes"),
        ),
        graph(
            "Commits per second",
            "Transactions that were made durable.",
            Query(f"rate(commonwatt_gateway_commits_total{{{_HERE}}}[$__rate_interval])", "commits"),
        ),
        graph(
            "Faults within an hour",
            "All should be 0. The logs say more; the utility's page /runbooks says what to do.",
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
            "Share of one core. A controller has one: above a half for long is too much.",
            Query(f"rate(process_cpu_seconds_total{{{_BOTH}}}[$__rate_interval])", "{{part}}"),
            look=Look("percentunit"),
        ),
        graph(
            "Memory",
            "It should stay level. If it climbs for days, please report it.",
            Query(f"process_resident_memory_bytes{{{_BOTH}}}", "{{part}}"),
            look=Look("bytes"),
        ),
        states(
            "Trusted time",
            "Whose word the time was. Without the utility, or NTP, it is the hardware clock's for some days.",
            Query(f"max by (place) ({_TRUST})", "{{place}}"),
            {0: ("none", RED), 1: ("meters", ORANGE), 2: ("hardware", "yellow"), 3: ("network", GREEN)},
        ),
    ],
)

GATEWAY = Dashboard(
    "gateway",
    "Commonwatt gateway",
    "Is the controller of one microgrid well: its processes, disk, clock and connections?",
    [_NOW, _RELAY, _LINE, _STORE, _PROCESSES],
    [choice("microgrid", "Microgrid", "commonwatt_gateway_commits_total, place")],
)

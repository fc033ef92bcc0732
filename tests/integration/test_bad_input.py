"""Bad input at real processes (row 28): every kind, from registered identities, while good meters deliver."""

import json
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from commonwatt.audit.comparison import audit_files
from commonwatt.demo.layout import CLOCK_FILE
from commonwatt.model.records import HistoryRecord, Log
from commonwatt.protocol.meter_messages import Put
from commonwatt.runtime.clock import save_clock
from harness.commands import run_as, shown
from harness.fuzz import bad_input
from harness.fuzz.bad_input import block
from harness.network.waiting import PATIENCE_S, eventually
from harness.real import forks
from harness.real.site import Site
from harness.surroundings.gateway import CAPACITY, START
from tests.docs.test_bad_input import rows

BAD_METER = 77
TOWN = f"""
[[microgrid]]
id = "r"
kind = "residential"
count = 2
houses = 2

[[meter]]
microgrid = "r001"
id = {BAD_METER}
account = 1
record_types = ["stored", "through"]
battery_capacity_mwh = {CAPACITY}
"""
PARTS = ("head-end", "utility", "r001 broker", "r001 gateway", "r001 meters")
MEASURED_S = 450
SPEED = 60

# These differ here: the meter is registered, and it has the types of this town's file.
NOT_HERE = ("not registered", "a topic that is no meter's", "slot that has one", "a time long ago")


@contextmanager
def client(site: Site, broker: str, identity: str, tokens: str) -> Iterator[Callable[[str, bytes], None]]:
    """A client with an identity's own token; yields a function that publishes, and waits for the PUBACK."""
    token = json.loads((site.folder / tokens).read_text())[identity]
    mqtt = paho.Client(CallbackAPIVersion.VERSION2, identity)
    mqtt.username_pw_set(identity, token)
    mqtt.connect(*site.address(broker))
    mqtt.loop_start()

    def publish(topic: str, payload: bytes) -> None:
        mqtt.publish(topic, payload, qos=1).wait_for_publish(30)

    try:
        eventually(mqtt.is_connected)
        yield publish
    finally:
        mqtt.disconnect()
        mqtt.loop_stop()


def command(site: Site, *words: str) -> str:
    done = forks.run([sys.executable, "-m", "commonwatt", *words], timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def dead_letters(site: Site, part: str, *words: str) -> list[dict[str, Any]]:
    """Return the list of the command ``dead-letters`` of a part."""
    found = site.layout.part(part)
    if part == "utility":
        return shown(found.config, "dead-letters", "limit=1000", *words)["dead_letters"]  # type: ignore[no-any-return]
    options = ("--config", str(found.config), "--json", "--limit", "1000", *words)
    listed: list[dict[str, Any]] = json.loads(command(site, found.kind, "dead-letters", *options))
    return listed


def _of_meter(part: str) -> tuple[str, ...]:
    return (f"meter={BAD_METER}",) if part == "utility" else ("--meter", str(BAD_METER))


def metrics(site: Site, part: str) -> str:
    with urllib.request.urlopen(f"http://{site.layout.part(part).http}/metrics", timeout=30) as answer:
        return str(answer.read().decode())


def figure(text: str, row: str) -> float:
    """Return the value of a metrics row."""
    return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(row + " "))


def ask(site: Site, path: str) -> dict[str, Any]:
    return site.ask("utility", path)


def bad_messages(now: int) -> Iterator[tuple[str, bytes, str]]:
    """Leaf, payload and the name of the dead letter it must become."""
    kept = {
        row[0]: row[3]
        for source in ("Puts of a meter", "History records", "Levels and outcomes")
        for row in rows(source)
    }
    here = {case: reason for case, reason in kept.items() if reason and not case.endswith(NOT_HERE)}
    record = HistoryRecord(
        record_type=3, lossy=0, record_id=1, meter_id=BAD_METER, account=1, start=now, end=now + 15, reading=5
    )
    for number, (case, reason) in enumerate(here.items(), 100):
        if case in bad_input.PUTS:
            yield "rec", bad_input.PUTS[case], reason
        elif case in bad_input.RECORDS:
            changes = {"record_id": number, **bad_input.RECORDS[case]}
            if "end" in changes and "start" in changes and changes["end"] < 2**31:
                shift = now - START
                changes |= {"start": changes["start"] + shift, "end": changes["end"] + shift}
            elif changes.get("start") == START + 1:
                changes["start"] = now + 1
            elif "account" in changes:  # The utility takes it as a reading: of a slot of its own.
                changes |= {"start": now - 15, "end": now}
            poison = record._replace(**changes)
            put = Put(log=Log.HISTORY, generation=1, first_id=number, last_id=number, records=(poison.pack(),))
            yield "rec", put.pack(), reason
        elif case in bad_input.LEVELS:
            yield "lvl", bad_input.LEVELS[case], reason
        else:
            yield "out", bad_input.OUTCOMES[case], reason


def bad_batches() -> Iterator[tuple[str, bytes, str]]:
    """Leaf, payload and dead letter of bad batches from another microgrid's registered gateway."""
    for case, _, counted, kept in rows("The head-end, at the utility"):
        if kept in ("bad batch", "bad message"):
            leaf, payload = bad_input.AT_UTILITY[case]
            yield leaf, payload, kept
        elif counted in ("not_registered", "not_assigned"):
            # All of it is of r001, so readings refused from that gateway may be quarantined from this one.
            leaf, payload = bad_input.AT_UTILITY[case]
            is_apart = counted == "not_assigned" or case == "a block of a type the meter does not have"
            yield leaf, payload, "not assigned" if is_apart else ""


def test_row_28_poison_is_kept_by_name_and_the_rest_flows(tmp_path: Path) -> None:
    with Site(tmp_path / "site", TOWN, speed=SPEED) as site:
        clock = replace(
            site.layout.clock,
            ceiling=site.layout.clock.origin,
            monotonic_origin=time.monotonic() + 3600,
            meters_stop_at=int(site.layout.clock.origin) + MEASURED_S,
        )
        save_clock(site.folder / CLOCK_FILE, clock)
        site.start(*PARTS)
        eventually(lambda: (site.status("utility") or {}).get("head_end_connected"))
        save_clock(site.folder / CLOCK_FILE, replace(clock, ceiling=None, monotonic_origin=time.monotonic()))
        # From then on the gateway's clock is confirmed, so that records of the future are rejected.
        eventually(lambda: ask(site, "/status")["microgrids"]["r001"]["last_batch"])

        now = int(clock.origin) + 150
        wanted = list(bad_messages(now))
        with client(site, "r001 broker", str(BAD_METER), "r001/meter-tokens.json") as publish:
            for leaf, payload, _ in wanted:
                publish(f"cw1/r001/{BAD_METER}/u/{leaf}", payload)
        to_utility = list(bad_batches())
        with client(site, "head-end", "r002", "r002/gateway-tokens.json") as publish:
            for leaf, payload, _ in to_utility:
                publish(f"cw1/r002/u/{leaf}", payload)
            publish("cw1/r002/u/batch", bad_input.batch_of(block(meter=10001), owner="r002").pack())

        _every_bad_one_is_listed_and_counted(site, wanted, to_utility)
        _every_good_one_arrives(site, tmp_path)
        _what_is_held_is_taken_when_somebody_says_so(site)


def _every_bad_one_is_listed_and_counted(
    site: Site, wanted: list[tuple[str, bytes, str]], to_utility: list[tuple[str, bytes, str]]
) -> None:
    names = Counter(reason for _, _, reason in wanted)

    def missing(part: str) -> Counter[str]:
        found = Counter(dead_letter["reason_text"] for dead_letter in dead_letters(site, part, *_of_meter(part)))
        return names - found

    for part in ("r001 gateway", "utility"):
        if part == "utility":
            del names["wrong account"]  # There it is a reading of the account that has the meter.
        deadline = time.monotonic() + PATIENCE_S
        while not_there := missing(part):
            assert time.monotonic() < deadline, f"{part}: {not_there}"
    at_utility = {reason for _, _, reason in to_utility if reason}

    def all_of_r002() -> bool:
        told = [each["reason_text"] for each in dead_letters(site, "utility") if each["sender"] == "r002"]
        assert set(told) <= at_utility
        # Identical bytes are stored once.
        return set(told) == at_utility and len(told) >= len({said for _, said, why in to_utility if why}) - 1

    # The utility serves senders in turn, so those of r001 may come before them.
    eventually(all_of_r002)
    text = metrics(site, "r001 gateway")
    for name in {reason for reason in names if not reason.startswith("message ")} - {"negative", "unknown state"}:
        label = name.replace(" ", "_")
        assert figure(text, f'commonwatt_gateway_rejected_records_total{{reason="{label}"}}'), name
    for result in ("malformed", "checksum", "version", "too_large"):
        assert figure(text, f'commonwatt_gateway_puts_total{{result="{result}"}}')
    assert figure(text, 'commonwatt_gateway_unreadable_messages_total{source="outcome"}')
    assert not figure(text, "commonwatt_gateway_callback_failures_total")
    text = metrics(site, "utility")
    for result in ("malformed", "checksum", "bad_payload", "not_registered"):
        assert figure(text, f'commonwatt_utility_messages_total{{result="{result}"}}')
    assert not figure(text, 'commonwatt_utility_messages_total{result="failed"}')
    assert not figure(text, "commonwatt_utility_store_errors_total")
    assert figure(text, 'commonwatt_utility_messages_total{result="not_assigned"}')
    eventually(lambda: ask(site, "/status")["microgrids"]["r002"]["last_refusal"])


def _every_good_one_arrives(site: Site, folder: Path) -> None:
    """Check that every reading of the emulated meters is at the utility, slot by slot."""

    def delivered() -> bool:
        meters, gateway = site.status("r001 meters") or {}, site.status("r001 gateway") or {}
        made = meters.get("made", 0)
        return bool(made) and made == meters["acknowledged"] and not any(gateway["backlog"].values()) and done(meters)

    def done(meters: dict[str, Any]) -> bool:
        return bool(meters["made"] >= 8 * (MEASURED_S // 15 - 2))

    eventually(delivered)
    files: dict[str, list[Path]] = {}
    for kind, part, words in (
        ("truth", "r001 meters", ["meters", "dump", "--truth"]),
        ("meters", "r001 meters", ["meters", "dump"]),
        ("gateways", "r001 gateway", ["gateway", "dump", "--unacknowledged"]),
        ("utility", "utility", ["utility", "dump"]),
    ):
        path = folder / f"{kind}.jsonl"
        path.write_text(command(site, *words, "--config", str(site.layout.part(part).config)))
        files[kind] = [path]
    audit = audit_files(files["truth"], files["meters"], files["gateways"], files["utility"])
    assert audit.good, audit
    assert audit.total("stored_exact") == audit.total("made") > 200


def _what_is_held_is_taken_when_somebody_says_so(site: Site) -> None:
    config = str(site.layout.part("utility").config)
    held = [x for x in dead_letters(site, "utility", "state=quarantined") if x["told"].startswith("type 3")]
    assert {x["sender"] for x in held if x["reason_text"] == "not assigned"} == {"r002"}
    through = [x for x in held if x["reason_text"] == "implausible"]
    assert [dead_letter["meter"] for dead_letter in through] == [str(BAD_METER)]
    words = f"numbers={through[0]['no']}", "decision=released", "--as", "ann"
    assert "slots" in run_as(Path(config), "do", "dead-letters/decide", *words)
    start = int(site.layout.clock.origin)
    found = ask(site, f"/readings?meter={BAD_METER}&start={start}&end={start + 900}")
    assert [value for _, value, _ in found["readings"]] == [5, 250_001], "the one of another account, the released one"

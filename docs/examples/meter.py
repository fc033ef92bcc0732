"""A meter at a battery, from docs/protocol.md alone: HOST PORT MICROGRID METER ACCOUNT PERCENT; it reads its token."""

import json
import struct
import sys
import time
import zlib
from contextlib import suppress
from types import SimpleNamespace

import paho.mqtt.client as mqtt


def with_crc(message):
    return message + struct.pack(">I", zlib.crc32(message))


def acknowledged(me, ack):
    accepted = sum(struct.unpack_from(">BI", ack, 31 + 5 * i)[1] for i in range(ack[30]))
    count = (accepted + int.from_bytes(ack[28:30], "big")).to_bytes(2, "big")
    if (with_crc(ack[:-4]), ack[1:3], ack[4:24], count) == (ack, b"\1\0", me.frozen[4:24], me.frozen[2:4]):  # only then
        me.log, me.frozen = [entry for entry in me.log if entry[0] > int.from_bytes(ack[16:24], "big")], b""


def received(client, me, message):
    if message.topic.endswith("/ack") or message.retain:
        return acknowledged(me, message.payload)
    command, now = json.loads(message.payload), int(time.time())
    name, epoch, until = command["cmd"], command["epoch"], command.get("until", now + command.get("for_s", 2**31))
    pair = [epoch, command["seq"] if name.startswith("share") else 0]
    numbers = zip((*epoch, pair[1], until), (2**32, 2**16, 2**53, 2**32), strict=True)
    if not all(type(n) is int and 0 <= n < end for n, end in numbers) or type(command["id"]) is not str:
        return None  # kept, it would spoil what comes after it
    result = "fenced" if epoch < me.epoch else "expired" if until <= now else "done"
    if name not in ("initialize", "get", "share_power_on", "share_power_off") or command.get("what") == "manager":
        result = "refused"  # a question that this meter can't answer changes nothing
    elif result == "done" and name.startswith("share"):
        if pair > [me.held["epoch"], me.held["seq"]]:  # here the battery gets the command
            me.held = {"value": name[12:], "epoch": epoch, "seq": pair[1], "until": until}
        else:
            result = "repeated" if pair == [me.held["epoch"], me.held["seq"]] else "superseded"
    bits = 0x11 if me.held["value"] == "on" and me.held["until"] > now else 1  # a state ends by itself
    if result == "done" and command.get("what") == "levels":
        level = with_crc(struct.pack(">BBHIq", 1, 0, bits, now // 15 * 15, me.level))
        return client.publish(f"{me.base}/u/lvl", level, qos=0)
    me.due = me.due or (result == "done" and command.get("what") == "records")
    me.epoch = epoch if result == "done" else me.epoch
    ids = {"generation": me.generation, "first": str(me.log[0][0] if me.log else me.next), "next": str(me.next)}
    out = {"v": 1, "id": command["id"], "cmd": name, "result": result, "time": now, "bits": bits, "push": True}
    out |= {"held": {"sharing": me.held}, "epoch": me.epoch, "history": ids, "minimum_percent": 50}
    return client.publish(f"{me.base}/u/out", json.dumps(out | {"capacity_mwh": 10_000_000}), qos=1)


host, port, microgrid, meter, account, percent = sys.argv[1:]
# It forgets at a restart and begins a new generation of its log; a meter that counts must keep all of this.
me = SimpleNamespace(base=f"cw1/{microgrid}/{meter}", level=int(percent) * 10**5, log=[], next=1, frozen=b"", due=False)
me.generation, me.epoch, me.held = int(time.time()), [0, 0], {"value": "off", "epoch": [0, 0], "seq": 0, "until": 0}
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=meter, userdata=me)
client.username_pw_set(meter, input())  # not an argument, which everybody on the machine could read
client.on_message, client.suppress_exceptions = received, True  # what can't be read is ignored
client.on_connect = lambda c, *a: (print("broker:", a[2]), c.subscribe(f"{me.base}/d/+", qos=1))
client.connect(host, int(port))
end = int(time.time()) // 15 * 15
while True:
    if client.loop(timeout=0.2) != mqtt.MQTT_ERR_SUCCESS:
        with suppress(OSError):
            time.sleep(5) or client.reconnect()  # a broker that refuses, or is away, is not pressed
    if time.time() >= end + 15:
        end, me.due = end + 15, True
        for kind, reading in ((2, me.level), (3, 5000)):  # stored, through
            record = struct.pack(">BBQQHIIq", kind, 0, me.next, int(meter), int(account), end - 15, end, reading)
            me.log, me.next = [*me.log, (me.next, record)], me.next + 1
    if me.due and me.log and not me.frozen:  # what is in flight stays as it is
        batch = me.log[:1000]
        head = struct.pack(">BBHIQQ", 1, 1, len(batch), me.generation, batch[0][0], batch[-1][0])
        me.frozen = with_crc(head + b"".join(record for _, record in batch))
    if me.due and me.frozen:
        client.publish(f"{me.base}/u/rec", me.frozen, qos=1)
    me.due = False

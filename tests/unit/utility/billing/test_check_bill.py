"""A household checks its bill: its proof, and a program of the standard library alone, as a process (U2)."""

import ast
import copy
import hashlib
import hmac
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.billing.worlds import World, random_world, tariff
from utility.billing.audit import BoundaryMeters, audit, leaves_file
from utility.billing.bill import Bill, BillLine, LineKind
from utility.billing.documents.receipt import quarters_of_accounts, receipt_of
from utility.billing.proof import (
    TOWN,
    Json,
    Leaf,
    MeterQuarters,
    _node,
    canonical,
    check_code,
    content_of,
    group_customers,
    head_of,
    leaf_hash,
    path_of,
    plain,
    root,
    salts,
)
from utility.billing.stored_run import Computed, StoredRun, computed
from utility.energy.quarters import Quantity

SECRET = bytes(range(32))


def leaves(count: int) -> list[bytes]:
    return [hashlib.sha256(b"%d" % n).digest() for n in range(count)]


def plain_root(hashes: Sequence[bytes]) -> bytes:
    """RFC 6962, 2.1: as it is written there."""
    if len(hashes) == 1:
        return hashes[0]
    half = 1 << (len(hashes) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + plain_root(hashes[:half]) + plain_root(hashes[half:])).digest()


def verified(leaf: bytes, index: int, size: int, path: Sequence[bytes], expected: bytes) -> bool:
    """Return whether a path leads from the hash of a leaf, at a place among so many, to the root."""
    if not 0 <= index < size:
        return False
    at, last, found = index, size - 1, leaf
    rest = iter(path)
    while last:
        if at % 2 or at < last:
            neighbour = next(rest, None)
            if neighbour is None:
                return False
            found = _node(neighbour, found) if at % 2 else _node(found, neighbour)
        at, last = at // 2, last // 2
    return next(rest, None) is None and hmac.compare_digest(found, expected)


@pytest.mark.parametrize("count", range(1, 71))
def test_each_leaf_of_any_count_is_proved_and_no_other(count: int) -> None:
    hashes = leaves(count)
    top = root(hashes)
    assert top == plain_root(hashes)
    for n in range(count):
        path = list(path_of(hashes, n))
        assert verified(hashes[n], n, count, path, top)
        assert count == 1 or not verified(hashes[n - 1], n, count, path, top)
        # A hint of the size that differs has another path, or another length of it.
        assert not verified(hashes[n], n, 2 * count + 2, path, top)
        assert not verified(hashes[n], n + count, count, path, top)
        assert not verified(hashes[n], n, count, [*path, top], top)


def test_the_known_answers_of_rfc_6962_hold() -> None:
    # The test vectors of certificate-transparency, whose leaves have no salt.
    contents = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    hashes = [hashlib.sha256(b"\x00" + bytes.fromhex(each)).digest() for each in contents]
    assert root(hashes).hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    assert root(hashes[:3]).hex() == "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"


@given(st.integers(1, 40), st.data())
def test_any_changed_byte_fails(count: int, data: st.DataObject) -> None:
    hashes = leaves(count)
    index = data.draw(st.integers(0, count - 1))
    parts = [hashes[index], root(hashes), *path_of(hashes, index)]
    which = data.draw(st.integers(0, len(parts) - 1))
    bit = data.draw(st.integers(0, 255))
    changed = bytearray(parts[which])
    changed[bit // 8] ^= 1 << bit % 8
    parts[which] = bytes(changed)
    assert not verified(parts[0], index, count, parts[2:], parts[1])


@given(st.binary(min_size=1, max_size=80), st.integers(0, 79), st.integers(1, 255))
def test_any_changed_byte_of_content_or_salt_makes_another_leaf(content: bytes, at: int, change: int) -> None:
    salt = salts(SECRET, [1])[1]
    whole = bytearray(salt + content)
    whole[at % len(whole)] ^= change
    assert leaf_hash(bytes(whole[:32]), bytes(whole[32:])) != leaf_hash(salt, content)


def test_a_node_is_never_a_leaf() -> None:
    left, right = leaves(2)
    # Its bytes as salt and content of a leaf: the first byte is another one.
    assert leaf_hash(left, right) != root([left, right])
    assert not verified(root([left, right]), 0, 1, (), leaf_hash(left, right))
    with pytest.raises(ValueError, match="32 bytes"):
        leaf_hash(b"\x01" + left, right)


def test_salts_are_repeatable_and_differ_by_account_and_run() -> None:
    ours = salts(SECRET, range(1, 200))
    assert ours == salts(SECRET, range(1, 200))
    assert len({*ours.values(), *salts(bytes(32), range(1, 200)).values()}) == 398
    with pytest.raises(ValueError, match="32 bytes"):
        salts(b"short", [1])


def test_canonical_json_has_one_form_and_no_floats() -> None:
    assert canonical({"b": [1, None], "a": "é"}) == b'{"a":"\\u00e9","b":[1,null]}'
    assert canonical(plain({"rate": Decimal("0E-2"), "kind": LineKind.BASE})) == b'{"kind":"base","rate":"0.00"}'
    with pytest.raises(TypeError, match="floating"):
        canonical({"a": [0.5]})
    with pytest.raises(TypeError, match="floating-point"):
        canonical({"a": (0.5,)})


def bill(account: int, total: str = "12.34") -> Bill:
    line = BillLine(kind=LineKind.IMPORT, text="Import", energy=1_000_000, amount=Decimal(total))
    return Bill(
        account=account, month="2026-11", start=10, end=14, tariff=("plain",), policy="spec", lines=(line,),
        total=Decimal(total),
    )  # fmt: skip


def meter(number: int, imported: int = 1000, *, microgrid: str = "m1", first: int = 10) -> MeterQuarters:
    energies = {Quantity.IMPORTED: np.full(4, imported), Quantity.SHARED_IN: np.zeros(4, np.int64)}
    return MeterQuarters(
        meter=number, microgrid=microgrid, first=first, energies=energies, quality=np.full(4, 4, np.uint8)
    )


def month(accounts: int = 20, *, customer: str = "house") -> tuple[list[Leaf], list[BoundaryMeters]]:
    secret = salts(SECRET, range(accounts + 1))
    made = [Leaf(account=TOWN, content=content_of(TOWN, "town", None, [meter(999, 7).stated()]), salt=secret[TOWN])]
    for n in range(1, accounts + 1):
        content = content_of(n, customer, bill(n, f"{n + 90}.00"), [meter(n).stated()])
        made.append(Leaf(account=n, content=content, salt=secret[n]))
    return made, [BoundaryMeters(microgrid="m1", imported=4000 * accounts + 28 + 3, exported=0, allowed=3)]


def head(made: Sequence[Leaf]) -> Json:
    hashes = [leaf_hash(leaf.salt, leaf.canonical()) for leaf in made]
    return head_of("2026-11", [leaf.content for leaf in made], hashes, tariffs={})


def file_of(made: Sequence[Leaf]) -> list[str]:
    return list(leaves_file(head(made), made))


def test_an_audit_finds_nothing_wrong_with_a_month() -> None:
    made, boundaries = month()
    lines = file_of(made)
    found = audit(lines, boundaries)
    assert (found.faults, found.leaves, found.bills, found.microgrids, found.largest) == ((), 21, 20, 1, 3)
    assert found.code == check_code(json.loads(lines[0])["head"])


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('"total":"95.00"', '"total":"95.01"', "account 5: the lines sum to 95.00, the bill says 95.01"),
        ('"meter":"5",', '"meter":"6",', "meter 6: accounts 5 and 6 both have it"),
        ('"leaf":{"account":5,', '"leaf":{"account":4,', "account 4: there are several leaves"),
        ('"imported":4000', '"imported":3000', "its members imported 79028 mWh, its boundary 80031 mWh"),
        ('"shared_in":0', '"shared_in":9', "members shared 0 mWh and received 9 mWh"),
        ('"customer":"house"', '"customer":"fire"', "totals of fire, house: customers"),
    ],
)
def test_an_audit_finds_what_was_changed_and_names_it(old: str, new: str, fault: str) -> None:
    made, boundaries = month()
    lines = file_of(made)
    assert old in lines[6]
    lines[6] = lines[6].replace(old, new)
    found = audit(lines, boundaries).faults
    assert any("the root of the leaves is" in each for each in found)
    assert any(fault in each for each in found), found


def test_an_audit_finds_a_leaf_that_is_left_out_and_a_microgrid_without_boundary() -> None:
    made, boundaries = month()
    lines = file_of(made)
    assert "the head counts 21 leaves, the file has 20" in audit([*lines[:5], *lines[6:]], boundaries).faults
    assert audit(lines, []).faults == ("microgrid m1: there is no boundary to compare with",)
    assert audit(lines).faults == (), "without boundaries they are not compared"


@pytest.mark.parametrize("text", ["", "{}", "[]\n", '{"head":1}\n{"leaf":1,"salt":"00"}', "{"])
def test_an_audit_of_another_file_says_so(text: str) -> None:
    with pytest.raises(ValueError, match=r"line|lacks a key|salt"):
        audit(text.splitlines())


@pytest.mark.parametrize("amount", ['"95,00"', '"NaN"', '""', "[" * 5_000 + "]" * 5_000, "[" * 200_000])
def test_an_audit_of_a_file_with_a_strange_amount_says_so(amount: str) -> None:
    lines = file_of(month()[0])
    lines[6] = lines[6].replace('"total":"95.00"', f'"total":{amount}')
    with pytest.raises(ValueError, match=r"line 7|is no number|another form"):
        audit(lines)


def test_totals_withhold_what_would_tell_of_one_account() -> None:
    (group,) = head(month()[0])["groups"]
    assert (group["accounts"], group["billed"], group["imported_mwh"]) == (20, "2010.00", 80_000)
    few = head(month(14)[0])["groups"][0]
    assert (few["accounts"], few["billed"], few["imported_mwh"]) == (14, None, None)
    made, _ = month()
    content = content_of(20, "house", bill(20, "3000.00"), [meter(20).stated()])
    loud = head([*made[:-1], Leaf(account=20, content=content, salt=made[-1].salt)])["groups"][0]
    assert (loud["billed"], loud["imported_mwh"]) == (None, 80_000)


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 40), min_size=1))
def test_each_account_is_in_one_group_and_no_group_is_small_if_it_can_be_helped(counts: dict[str, int]) -> None:
    groups = group_customers(counts)
    assert sorted(name for group in groups for name in group) == sorted(counts)
    sizes = [sum(counts[name] for name in group) for group in groups]
    assert min(sizes) >= 15 or len(groups) == 1


SCRIPT = Path(__file__).parents[4] / "docs/examples/check_bill.py"

Receipt = dict[str, Any]


def run_of(world: World) -> StoredRun:
    inputs = world.inputs
    return StoredRun(
        month=inputs.month,
        timezone=inputs.timezone,
        default=inputs.default,
        code="1",
        settled=1,
        previous=0,
        tariffs=tuple(each.canonical() for each in inputs.tariffs),
        registry=inputs.registry,
        bases=inputs.bases,
    )


def receipts(world: World) -> dict[int, Receipt]:
    made = computed(run_of(world), world.load)
    return {number: receipt(made, number, world) for number in made.billed}


def receipt(made: Computed, number: int, world: World) -> Receipt:
    quarters = quarters_of_accounts(made.run.inputs(), [number], world.load)[number]
    bill = made.billed[number].bill
    found = receipt_of(made.run.inputs(), made.tree(SECRET), bill, quarters)
    return dict(json.loads(json.dumps(found)))


@pytest.fixture(name="checker", scope="module")
def _checker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_bill", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(name="town", scope="module")
def _town() -> dict[int, Receipt]:
    return receipts(random_world(3))


def faults(checker: ModuleType, found: Receipt) -> list[str]:
    checker.FAULTS.clear()
    checker.check_proof(found, check_code(found["head"]))
    checker.check_amount(found)
    return list(checker.FAULTS)


def test_every_bill_of_random_towns_is_computed_again_by_all_policies(checker: ModuleType) -> None:
    policies, bills = set(), 0
    for seed in range(12):
        for found in receipts(random_world(seed)).values():
            assert faults(checker, found) == []
            policies.add(found["leaf"]["bill"]["policy"])
            bills += 1
    assert policies == {"spec", "aces", "rangers"}
    assert bills > 60


def test_receipt_of_later_rules_says_so(checker: ModuleType, town: dict[int, Receipt]) -> None:
    found = copy.deepcopy(next(iter(town.values())))
    found["head"]["rules"] = 4
    assert any("version 4 of the rules" in each for each in faults(checker, found))


def test_part_of_a_buildings_credit_that_is_a_cent_off_is_found(checker: ModuleType) -> None:
    changed = 0
    for seed in range(12):
        for found in receipts(random_world(seed)).values():
            lines = found["leaf"]["bill"]["lines"]
            line = next((one for one in lines if one["text"].startswith("Credit, part of the building's")), None)
            if line is not None:
                line["amount"] = str(Decimal(line["amount"]) + 1)
                assert any("is a cent off or more" in each for each in faults(checker, found))
                changed += 1
    assert changed


@pytest.mark.parametrize("changed", [{"credit_price": "credit"}, {"off_peak": "night"}])
def test_each_version_has_its_own_price_of_credit(checker: ModuleType, changed: dict[str, str]) -> None:
    world = random_world(3)
    inputs = world.inputs
    half = datetime.fromtimestamp((inputs.first + inputs.length // 2) * 900, UTC).isoformat()
    policy = {"name": "aces", "off_peak": "off-peak"}
    prices = [("peak", "0.3", "0.1"), (changed.get("off_peak", "off-peak"), "0.2", "0.05")]
    tariffs = [
        each
        for name in ("town", "night")
        for each in (tariff(name, policy=policy), tariff(name, 2, half, prices=prices, policy=policy | changed))
    ]
    world = replace(world, inputs=replace(inputs, tariffs=tuple(tariffs)))
    for found in receipts(world).values():
        assert faults(checker, found) == []


def process(tmp_path: Path, found: Receipt, *options: str) -> tuple[int, str]:
    path = tmp_path / "receipt.json"
    path.write_text(json.dumps(found))
    done = subprocess.run(
        [sys.executable, "-I", str(SCRIPT), str(path), *options],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def meter_file(tmp_path: Path, found: Receipt, more: int = 0) -> str:
    """Write what the household's own meter counted; ``more``: milliwatt-hours more in one quarter-hour."""
    path = tmp_path / "meter.csv"
    taken: dict[int, int] = {}
    for meter in found["meters"]:
        for name in ("imported", "shared_in"):
            for quarter, energy in enumerate(meter["energies_mwh"].get(name, ()), meter["first"]):
                taken[quarter] = taken.get(quarter, 0) + energy
    taken[max(taken)] += more
    rows = [f"{_iso(quarter)},{Decimal(energy).scaleb(-6)}" for quarter, energy in taken.items()]
    path.write_text("\n".join(["start,taken_kwh", *rows]))
    return str(path)


def _iso(quarter: int) -> str:
    return datetime.fromtimestamp(quarter * 900, UTC).isoformat()


def test_good_bill_is_found_good(tmp_path: Path, town: dict[int, Receipt]) -> None:
    found = next(iter(town.values()))
    code = check_code(found["head"])
    done, said = process(tmp_path, found, "--code", code, "--meter", meter_file(tmp_path, found))
    assert done == 0, said
    assert "nothing is wrong" in said
    assert "0 differ" in said


def _cent(found: Receipt, _: Receipt) -> None:
    found["leaf"]["bill"]["total"] = str(Decimal(found["leaf"]["bill"]["total"]) + Decimal("0.01"))


def _quarter(found: Receipt, _: Receipt) -> None:
    name = min(found["meters"][0]["energies_mwh"])
    found["meters"][0]["energies_mwh"][name][7] += 1


def _proof(found: Receipt, other: Receipt) -> None:
    found["proof"] = other["proof"]


def _salt(found: Receipt, other: Receipt) -> None:
    found["salt"] = other["salt"]


def _price(found: Receipt, _: Receipt) -> None:
    next(iter(found["tariffs"].values()))["period"][0]["import"] = "0.99"


def _fewer_meters(found: Receipt, _: Receipt) -> None:
    found["meters"].pop()


def _no_meters(found: Receipt, _: Receipt) -> None:
    found["meters"] = []


def _more_meters(found: Receipt, other: Receipt) -> None:
    found["meters"] += other["meters"]


def _root(found: Receipt, _: Receipt) -> None:
    found["head"]["root"] = "00" * 32


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_cent, "total: billed"),
        (_quarter, "its quarter-hours are not the bill's"),
        (_proof, "does not lead from this bill to the root"),
        (_salt, "does not lead from this bill to the root"),
        (_price, "it is not that of all bills"),
        (_root, "the printed check code is another one"),
        (_fewer_meters, "meters: not as many as the bill has"),
        (_no_meters, "meters: not as many as the bill has"),
        (_more_meters, "meters: not as many as the bill has"),
    ],
)
def test_each_planted_fault_is_found(
    tmp_path: Path, town: dict[int, Receipt], change: Callable[[Receipt, Receipt], None], said: str
) -> None:
    first, other = list(town.values())[:2]
    code = check_code(first["head"])
    found = copy.deepcopy(first)
    change(found, other)
    done, words = process(tmp_path, found, "--code", code)
    assert done == 1
    assert f"{said}" in words
    assert "Traceback" not in words


def test_receipt_that_lacks_meters_is_wrong_and_no_crash(checker: ModuleType, town: dict[int, Receipt]) -> None:
    for found in town.values():
        for kept in range(len(found["meters"])):
            assert faults(checker, found | {"meters": found["meters"][:kept]}), "nothing was found"


def test_utility_that_plants_a_wrong_cent_before_it_makes_the_tree_is_found(checker: ModuleType) -> None:
    world = random_world(3)
    made = computed(run_of(world), world.load)
    number = next(iter(made.billed))
    bill = made.leaves[number]["bill"]
    line = next(line for line in bill["lines"] if line["kind"] == LineKind.BASE)
    line["amount"] = str(Decimal(line["amount"]) + Decimal("0.01"))
    bill["total"] = str(Decimal(bill["total"]) + Decimal("0.01"))
    found = receipt(computed(run_of(world), world.load), number, world)
    tree = made.tree(SECRET)
    index = sorted(made.leaves).index(number)
    found |= {"leaf": made.leaves[number], "head": tree.head}
    found["proof"] = {"index": index, "path": [each.hex() for each in path_of(tree.hashes, index)]}
    wrong = faults(checker, json.loads(canonical(found)))
    assert any(each.startswith("total: billed") for each in wrong), wrong
    assert not any("proof" in each for each in wrong), "the tree itself is good"


def test_own_meter_that_counted_less_is_named_with_its_quarter_hour(tmp_path: Path, town: dict[int, Receipt]) -> None:
    found = next(iter(town.values()))
    done, said = process(tmp_path, found, "--meter", meter_file(tmp_path, found, more=-2000))
    assert done == 1
    assert "WRONG: 2" in said
    assert "1 differ" in said


def test_program_is_short_and_needs_the_standard_library_alone_but_for_certificates() -> None:
    text = SCRIPT.read_text()
    assert len(text.splitlines()) < 261
    tree = ast.parse(text)
    tree.body = [node for node in tree.body if not (isinstance(node, ast.FunctionDef) and node.name == "is_bound")]
    names = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name) or ""
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert {name.split(".")[0] for name in names} <= set(sys.stdlib_module_names)

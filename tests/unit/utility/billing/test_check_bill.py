"""A household checks its bill with a program of the standard library alone, as a process (U2)."""

import ast
import copy
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from harness.billing.worlds import World, random_world, tariff
from utility.billing.bill import LineKind
from utility.billing.documents.receipt import quarters_of_accounts, receipt_of
from utility.billing.proof.canonical import canonical
from utility.billing.proof.head import check_code
from utility.billing.proof.tree import path_of
from utility.billing.stored_run import Computed, StoredRun, computed

SCRIPT = Path(__file__).parents[4] / "docs/examples/check_bill.py"
SECRET = bytes(range(32))

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

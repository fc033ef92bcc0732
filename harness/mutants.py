"""Mutation of the cores: a small change of a line that no test notices is a hole in the tests (make soak).

    python -m harness.mutants --of 40 --seed 1

For each core, changes are drawn by a seed; each is made in memory, as the tests of the core load its module. Killed is
what a test, or the time limit, notices. It prints the survivors, each with its line before and after.
"""

import argparse
import ast
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType

ROOT = Path(__file__).parents[1]
MUTANT = "COMMONWATT_MUTANT"  # of the tests' process: the module's file, and the number of the change
SLOWEST = 4  # times the duration without a change, after which a change counts as killed


@dataclass(frozen=True)
class Core:
    """What is changed, and the tests that must notice it."""

    modules: tuple[str, ...]  # patterns of its modules
    tests: tuple[str, ...]  # its tests, the quickest first


_GATEWAY = "tests/unit/gateway"
CORES = {
    "settlement": Core(
        ("utility/energy/*.py", "utility/corrections/estimates.py", "utility/corrections/validation.py"),
        ("tests/unit/utility/energy", "tests/unit/utility/corrections", "tests/unit/utility/settlement"),
    ),
    "control": Core(("gateway/control/*.py",), (_GATEWAY,)),
    "takeover": Core(
        ("gateway/clique/*.py", "utility/cliques/grants.py"),
        (f"{_GATEWAY}/test_takeover.py", f"{_GATEWAY}/test_successor.py", "tests/world/test_takeover.py"),
    ),
    "delivery": Core(
        ("gateway/relay/*.py", "gateway/collect.py", "commonwatt/device/records.py"),
        ("tests/unit/device", _GATEWAY),
    ),
    "billing": Core(
        tuple(f"utility/billing/{name}.py" for name in ("bill", "rules/lines", "rules/sums", "stored_run")),
        ("tests/unit/utility/billing",),
    ),
}
"""By name."""

_SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
}


class _Changer(ast.NodeTransformer):
    """Makes the change of a number; ``lines``: the line of each that could be made."""

    def __init__(self, number: int | None = None) -> None:
        self.lines: list[int] = []
        self._number = number

    def _is_due(self, node: ast.expr) -> bool:
        self.lines.append(node.lineno)
        return self._number == len(self.lines) - 1

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if type(node.ops[0]) in _SWAPS and self._is_due(node):
            node.ops[0] = _SWAPS[type(node.ops[0])]()  # type: ignore[call-overload]
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if type(node.op) in _SWAPS and not isinstance(node.left, ast.JoinedStr) and self._is_due(node):
            node.op = _SWAPS[type(node.op)]()  # type: ignore[assignment]
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        if self._is_due(node):
            node.op = _SWAPS[type(node.op)]()  # type: ignore[assignment]
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        return node.operand if isinstance(node.op, ast.Not) and self._is_due(node) else node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, bool | int) and self._is_due(node):
            node.value = not node.value if isinstance(node.value, bool) else node.value + 1
        return node

    def _body(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> ast.AST:
        """Change what a function or a class does, not what its signature and decorators say."""
        node.body = [self.visit(statement) for statement in node.body]
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _body  # noqa: N815 - names of ``ast``


class _Planter(SourceFileLoader):
    """Loads one module changed."""

    def __init__(self, path: Path, number: int) -> None:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        super().__init__(name, str(path))
        self._number = number

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        """Find the module, as one of ``sys.meta_path``."""
        del path, target
        return spec_from_file_location(fullname, self.path, loader=self) if fullname == self.name else None

    def get_code(self, fullname: str) -> CodeType:
        """Return the changed module's code."""
        del fullname
        tree = _Changer(self._number).visit(ast.parse(Path(self.path).read_text()))
        code: CodeType = compile(ast.fix_missing_locations(tree), self.path, "exec")
        return code


if MUTANT in os.environ:  # as a plugin of pytest, before the tests load the module
    _path, _, _no = os.environ[MUTANT].rpartition(":")
    sys.meta_path.insert(0, _Planter(Path(_path), int(_no)))


def changes(core: Core) -> Iterator[tuple[Path, int, int]]:
    """Yield each change of a core: the module, the change's number and its line."""
    for pattern in core.modules:
        for path in sorted(ROOT.glob(pattern)):
            changer = _Changer()
            changer.visit(ast.parse(path.read_text()))
            yield from ((path, number, line) for number, line in enumerate(changer.lines))


def notices(tests: Sequence[str], mutant: str, within_s: float | None) -> bool:
    """Return whether a core's tests fail, or take longer than a time, with a change; ``""``: without one."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n0", "-p", "no:cacheprovider", "-p", "harness.mutants"]
    environment = {name: value for name, value in os.environ.items() if name != MUTANT}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1"} | ({MUTANT: mutant} if mutant else {})
    filtered = ["-m", "not real", *tests]
    try:
        done = subprocess.run(
            [*command, *filtered], cwd=ROOT, env=environment, capture_output=True, timeout=within_s, check=False
        )
    except subprocess.TimeoutExpired:
        return True
    return done.returncode != 0


def survivors(core: Core, most: int, seed: int) -> tuple[list[str], int]:
    """Return the changes that no test notices, as text, and the number of those that were made."""
    every = list(changes(core))
    some = random.Random(seed).sample(every, min(most, len(every)))
    began = time.monotonic()
    assert not notices(core.tests, "", None), f"the tests fail without a change: {' '.join(core.tests)}"
    limit_s = SLOWEST * (time.monotonic() - began) + 10
    found = []
    for done, (path, number, line) in enumerate(some, 1):
        if not notices(core.tests, f"{path}:{number}", limit_s):
            before = ast.parse(path.read_text())
            after = _Changer(number).visit(ast.parse(path.read_text()))
            pairs = zip(ast.unparse(before).splitlines(), ast.unparse(after).splitlines(), strict=True)
            was, now = next((one.strip(), other.strip()) for one, other in pairs if one != other)
            found.append(f"{path.relative_to(ROOT)}:{line}: {was}  ->  {now}")
            print(f"  survives: {found[-1]}", flush=True)
        print(f"  {done} of {len(some)}, {len(found)} survive", end="\r", file=sys.stderr)
    return found, len(some)


def main() -> None:
    """Change the cores, and print what survives."""
    parser = argparse.ArgumentParser(description="Change lines of the cores; print what no test notices.")
    parser.add_argument("cores", nargs="*", default=list(CORES), help=f"of: {', '.join(CORES)} (default: all)")
    parser.add_argument("--of", type=int, default=40, help="changes of each core (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the draw (default: %(default)s)")
    given = parser.parse_args()
    for name in given.cores:
        print(f"{name}:", flush=True)
        found, made = survivors(CORES[name], given.of, given.seed)
        print(f"{name}: {made - len(found)} of {made} killed ({(made - len(found)) / made:.0%})", flush=True)


if __name__ == "__main__":
    main()

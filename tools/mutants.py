"""Break the library in one place after the other, and see whether the tests notice.

Cosmic Ray makes the mutants. They are tested in temporary copies of the tree, one for
each core, so the tree itself is never touched. Those that survive are shown as diffs.
It fails if the tests notice less than 90 % of them.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from difflib import unified_diff
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from queue import SimpleQueue
from signal import SIGKILL
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parent.parent
PACKAGE = Path("src/trio_clockrt")
FILES = [
    "_queue.py",
    "_timers.py",
    "_lifetime.py",
    "_alarm.py",
    "_driver.py",
    "_timer_nursery.py",
]
REQUIRED = 0.9

PYTEST = [
    *(sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"),
    # Why a test failed is not shown, and rewriting assertions takes a second.
    *("--assert=plain", "--tb=no"),
    # The same examples each time, without those that other mutants have found.
    *("--hypothesis-profile=ci", "-ofaulthandler_exit_on_timeout=true"),
    # This takes as long as many others, and they would notice the same.
    *("-k", "not very_many_tasks"),
]
SHORTER = {"SOAK_STEPS": "3000"}
# These take a moment and notice most. What they let pass meets all the others.
QUICK = [
    f"tests/test_{name}.py"
    for name in (
        *("queue", "waiting", "life", "driver", "owners", "hard_moments"),
        *("timer_nursery", "without_trio", "bad_moments"),
    )
]
STAGES = [QUICK, [f"--ignore={path}" for path in QUICK]]

# A mutant may need memory without end.
MEMORY = 4 * 1024**3

# These operators say nothing about the tests. Numbers here are floats, which have no
# bits, so this is a TypeError...
BITS = r"ReplaceBinaryOperator_\w+_(RShift|LShift|Bit\w+)|\w+_USub_Invert"
# ...what is compared by `is` has no order, and an equality that is the same, and which
# equal floats are one object is up to Python; only `is` and `is not` change places...
IDENTITY = r"ReplaceComparisonOperator_(?!Is_IsNot$|IsNot_Is$)\w*Is\w*"
# ...this is the same as `ReplaceUnaryOperator_Delete_USub`...
TWICE = r"\w+_USub_UAdd"
# ...and these put numbers at random in place of a variable that one has to name.
RANDOM = r"Variable\w+"
POINTLESS = re.compile(f"core/({BITS}|{IDENTITY}|{TWICE}|{RANDOM})$")


class Mutant(NamedTuple):
    path: Path
    original: str
    code: str

    def line(self) -> int:
        lines = zip(self.original.splitlines(), self.code.splitlines(), strict=False)
        return next(n for n, (before, after) in enumerate(lines, 1) if before != after)

    def diff(self) -> list[str]:
        before, after = self.original.splitlines(), self.code.splitlines()
        name = str(self.path)
        return list(unified_diff(before, after, name, name, n=2, lineterm=""))


class Result(NamedTuple):
    mutant: Mutant
    killed: bool
    seconds: float


class RemoveStatement:
    """An operator that Cosmic Ray does not have: ``pass`` in place of a statement.

    It leaves docstrings, and imports, without which hardly anything works.
    """

    spared = ("import_name", "import_from", "string", "keyword", "operator")

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        if node.type == "simple_stmt" and node.children[0].type not in self.spared:
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, _: int) -> Any:
        prefix = node.get_first_leaf().prefix
        node.children[0] = get_ast(f"{prefix}pass")
        return node


class WhatMatters(ast.NodeTransformer):
    """Leaves out what is there for type checkers or other Pythons, and never matters.

    Mutants that differ in nothing else are not made: those of annotations, such as
    ``float & None``, and of what is under ``if TYPE_CHECKING``, or a Python version,
    which coverage leaves out as well. (No operator changes docstrings or messages.)
    """

    def visit_If(self, node: ast.If) -> ast.AST:
        if re.match(
            r"(not )?(TYPE_CHECKING|sys\.version_info)", ast.unparse(node.test)
        ):
            return ast.Pass()
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node) if node.value else ast.Pass()

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_FunctionDef(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef
    ) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self.visit_FunctionDef(node)


def what_matters(code: str) -> str:
    return ast.dump(WhatMatters().visit(ast.parse(code)))


def mutants(path: Path) -> Iterator[Mutant]:
    """Everything that can be broken in a file, each once, if it is still Python."""
    original = (ROOT / path).read_text()
    nodes = list(ast_nodes(get_ast(original)))
    names = [name for name in operator_names() if not POINTLESS.match(name)]
    seen = {what_matters(original)}
    for operator in [RemoveStatement(), *(get_operator(name)() for name in names)]:
        hits = [node for node in nodes for _ in operator.mutation_positions(node)]
        for occurrence, node in enumerate(hits):
            if node.type == "operator" and node.parent.type == "parameters":
                continue  # a `*` that is no operator
            # (An AttributeError is its `ExceptionReplacer` at a name with a dot.)
            with suppress(SyntaxError, AttributeError):
                code = str(mutate_code(original, operator, occurrence))
                this = what_matters(code)
                if this not in seen:
                    seen.add(this)
                    yield Mutant(path, original, code)


class Copy:
    """A copy of the tree, in which the tests run for one mutant at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # No bytecode is written later: it is recognized by the second and the size.
        self._environment = {
            **os.environ,
            **SHORTER,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(path / "src"),
        }
        ignored = shutil.ignore_patterns(".*", "_build", "__pycache__")
        shutil.copytree(ROOT, path, ignore=ignored)
        compileall.compile_dir(path, quiet=1)

    def time(self, stage: int) -> float:
        """How long the tests take without a mutant."""
        begin = time.monotonic()
        if not self._passes(stage, None):
            raise RuntimeError((self._path / "output").read_text())
        return time.monotonic() - begin

    def test(self, mutant: Mutant, limits: list[float]) -> Result:
        begin = time.monotonic()
        path = self._path / mutant.path
        path.write_text(mutant.code)
        passes = all(self._passes(stage, limit) for stage, limit in enumerate(limits))
        path.write_text(mutant.original)
        return Result(mutant, not passes, time.monotonic() - begin)

    def _passes(self, stage: int, limit: float | None) -> bool:
        command = [*PYTEST, *STAGES[stage]]
        if limit is not None:
            # A single test that takes twice as long as all of them should will not end.
            command += [f"-ofaulthandler_timeout={2 * limit}"]
            limit *= 4
        with (self._path / "output").open("w") as output:
            process = subprocess.Popen(
                command,
                cwd=self._path,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            return process.wait(limit) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, SIGKILL)  # and all that it has started
            process.wait()


def run(todo: list[Mutant], jobs: int) -> Iterator[Result]:
    with TemporaryDirectory(prefix="mutants-") as where, ThreadPool(jobs) as pool:
        copies = [Copy(Path(where, str(n))) for n in range(jobs)]
        free: SimpleQueue[Copy] = SimpleQueue()
        for copy in copies:
            free.put(copy)

        def test(mutant: Mutant) -> Result:
            copy = free.get()
            try:
                return copy.test(mutant, limits)
            finally:
                free.put(copy)

        try:
            limits = [
                max(pool.map(partial(Copy.time, stage=stage), copies))
                for stage in range(len(STAGES))
            ]
            print(f"Without a mutant, the tests take {sum(limits):.0f} s", flush=True)
            yield from pool.imap(test, todo)
        finally:
            pool.terminate()
            pool.join()  # if this is Ctrl-C, some are at work


def report(what: str, results: Iterable[Result]) -> float:
    verdicts = [result.killed for result in results]
    score = sum(verdicts) / len(verdicts)
    print(f"{what:18} {sum(verdicts):4} of {len(verdicts):4} noticed, {score:6.1%}")
    return score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "files", nargs="*", default=FILES, metavar="FILE[:LINE]", help="which, not all"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="at a time")
    args = parser.parse_args()
    with suppress(ValueError):
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, most))

    todo = []
    for file in args.files:
        name, _, line = file.partition(":")
        path = PACKAGE / Path(name).name
        todo += [m for m in mutants(path) if line in ("", str(m.line()))]
    if not todo:
        parser.error("there are no mutants of this")
    begin = time.monotonic()
    results = []
    for number, result in enumerate(run(todo, args.jobs), 1):
        results.append(result)
        if not result.killed:
            print(f"\nNumber {number} of {len(todo)} survives:")
            print(*result.mutant.diff(), sep="\n", flush=True)
    print()
    for path in dict.fromkeys(mutant.path for mutant in todo):
        report(path.name, (r for r in results if r.mutant.path == path))
    score = report("all", results)
    print(f"in {(time.monotonic() - begin) / 60:.0f} minutes")
    sys.exit(score < REQUIRED)


if __name__ == "__main__":
    main()

"""Files import only from those above them, as docs/design.md lists them."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import trio_clockrt

ROOT = Path(__file__).parent.parent
PACKAGE = Path(trio_clockrt.__file__).parent
LISTED = [
    name
    for row in re.findall(
        r"^\| (`_.*?) \|", (ROOT / "docs" / "design.md").read_text(), re.MULTILINE
    )
    for name in re.findall(r"`(\w+)\.py`", row)
]


def imports(tree: ast.AST) -> set[str]:
    return {
        node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module
    }


def imports_for_types(tree: ast.AST) -> set[str]:
    """What is imported for annotations only, which may be mutual."""
    return {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for name in imports(node)
    }


def test_every_file_is_listed() -> None:
    files = {path.stem for path in PACKAGE.rglob("*.py")} - {"__init__"}
    assert sorted(LISTED) == sorted(files)


@pytest.mark.parametrize("name", LISTED)
def test_a_file_imports_only_from_above(name: str) -> None:
    tree = ast.parse((PACKAGE / f"{name}.py").read_text())
    assert imports(tree) - imports_for_types(tree) <= set(LISTED[: LISTED.index(name)])


def test_importing_it_does_not_import_what_only_tests_need() -> None:
    code = "import sys, trio_clockrt; print('trio.testing' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n"

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
        r"^\| (`[\w/]+\.py.*?) \|",
        (ROOT / "docs" / "design.md").read_text(),
        re.MULTILINE,
    )
    for name in re.findall(r"`([\w/]+)\.py`", row)
]


def imports(tree: ast.AST, folder: str) -> set[str]:
    """The names, as they are listed, of what is imported from this package."""
    prefixes = {1: folder, 2: ""}
    return {
        prefixes[node.level] + node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level and node.module
    }


def imports_for_types(tree: ast.AST, folder: str) -> set[str]:
    """What is imported for annotations only, which may be mutual."""
    return {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for name in imports(node, folder)
    }


def test_every_file_is_listed() -> None:
    files = {
        path.relative_to(PACKAGE).with_suffix("").as_posix()
        for path in PACKAGE.rglob("*.py")
        if path.stem != "__init__"
    }
    assert sorted(LISTED) == sorted(files)


@pytest.mark.parametrize("name", LISTED)
def test_a_file_imports_only_from_above(name: str) -> None:
    tree = ast.parse((PACKAGE / f"{name}.py").read_text())
    folder = name[: name.rfind("/") + 1]
    imported = imports(tree, folder) - imports_for_types(tree, folder)
    assert imported <= set(LISTED[: LISTED.index(name)])


def test_one_file_looks_at_the_inside_of_trio() -> None:
    private = {
        path.name
        for path in PACKAGE.rglob("*.py")
        if re.search(r"\btrio\._(?!_)|GLOBAL_RUN_CONTEXT", path.read_text())
    }
    assert private == {"_trio_inside.py"}


def test_importing_it_does_not_import_what_only_tests_need() -> None:
    code = "import sys, trio_clockrt; print('trio.testing' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n"

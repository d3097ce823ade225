"""Imports go down only, in the order in which things are processed: docs/architecture.md."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "hwgen"
# From the bottom up. A module may import what stands before it, and its own package.
ORDER = (
    *("errors", "cache", "blas", "children"),
    *("arith", "config", "packing", "layout", "ir", "isa", "ops", "optimize", "quantize", "frontend", "schedule", "rtl", "emit", "cosim", "synth", "report"),
    *("arrays", "output", "progress", "inputs", "network", "score", "explain", "explore", "build", "verify", "synthesize", "evaluate"),
    *("console", "cli_options", "cli_explore", "cli", "__main__"),
)
RTL_KNOWS = {"arith", "config", "errors", "isa", "packing", "rtl"}


def imported(path: Path) -> Iterator[str]:
    """First component below hwgen of every import that runs; those for type checking only do not count."""

    def visit(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports are absolute"
            names = [node.module or ""] if node.module != "hwgen" else [f"hwgen.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            names = []
        for name in names:
            if name.startswith("hwgen.") and name != "hwgen.__version__":
                yield name.split(".")[1]
        for child in ast.iter_child_nodes(node):
            yield from visit(child)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")))


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def stage_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    stage = stage_of(path)
    upward = {name for name in imported(path) if name != stage and ORDER.index(name) >= ORDER.index(stage)}
    assert not upward, f"{path.relative_to(PACKAGE)} imports {', '.join(sorted(upward))}, which stand above {stage}"


def test_every_stage_has_its_place() -> None:
    assert {stage_of(path) for path in modules()} <= set(ORDER)


def test_hardware_knows_neither_operators_nor_networks() -> None:
    for path in (PACKAGE / "rtl").rglob("*.py"):
        assert set(imported(path)) <= RTL_KNOWS, path.name


def test_only_the_command_line_prints_or_exits() -> None:
    for path in modules():
        if stage_of(path) in ("console", "cli_explore", "cli", "__main__"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            assert not (isinstance(called, ast.Name) and called.id in ("print", "exit", "quit")), path.name
            assert not (isinstance(called, ast.Attribute) and called.attr in ("exit", "_exit")), path.name


def test_functions_and_files_keep_their_size() -> None:
    for path in modules():
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 400, f"{path.name} is too long"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                lines = (node.end_lineno or 0) - node.body[0].lineno + 1
                assert lines <= 50, f"{path.name}: {node.name} has {lines} lines"

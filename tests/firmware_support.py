"""Emit, compile and run firmware in tests."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwgen.config import PRESETS, HardwareConfig
from hwgen.emit.firmware import FirmwareInput
from hwgen.emit.firmware_answers import KnownAnswer
from hwgen.ir.graph import Graph, GraphInput, GraphOutput, Node, Value
from hwgen.ir.types import Quantization, TensorType
from hwgen.ops.add import Add
from hwgen.ops.golden import golden_codes
from hwgen.schedule.compile import compile_network

STRICT = "-std=c99 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wcast-qual -Wmissing-prototypes -Werror"
SANITIZE = "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all"


def hardware_for(graph: Graph, preset: str = "8x8") -> HardwareConfig:
    """A roomy accelerator with the arithmetic of `graph`."""
    return replace(
        PRESETS[preset],
        multiplier_bits=graph.arithmetic.multiplier_bits,
        rounding=graph.arithmetic.rounding,
        activation_words=1 << 17,
        weight_words=1 << 14,
        parameter_words=1 << 13,
        activation_tables=8,
        output_gaps=True,
    )


def random_codes(graph: Graph, seed: int, count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {entry.value: rng.integers(-128, 128, (count, *graph.values[entry.value].type.shape)).astype(np.int8) for entry in graph.inputs}


def firmware_input(graph: Graph, *, seed: int = 0, vectors: int = 2, prefix: str = "", config: HardwareConfig | None = None) -> FirmwareInput:
    """The whole way from a quantized graph, with golden answers for random inputs."""
    network = compile_network(graph, config or hardware_for(graph))
    values = golden_codes(network.graph, random_codes(network.graph, seed, vectors), keep=network.graph.values)
    return FirmwareInput.of(network, tuple(KnownAnswer.from_batch(values, k) for k in range(vectors)), prefix)


def write(files: Mapping[str, bytes], folder: Path) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`make` in `folder`; skips the test where there is no compiler."""
    if not (shutil.which("make") and shutil.which("gcc")):
        pytest.skip("make and gcc are needed")
    return subprocess.run(["make", "-s", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=120, check=False)


def compile_c(folder: Path, output: str, *arguments: str, flags: str = "") -> Path:
    """Compile emitted files strictly; `arguments` are files below `folder` or further options. Fails the test on any warning."""
    if not shutil.which("gcc"):
        pytest.skip("gcc is needed")
    command = ["gcc", *STRICT.split(), *flags.split(), "-Iinclude", "-Iport", "-Wa,-Isrc", *arguments, "-lm", "-o", output]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return folder / output


def sources(folder: Path, *, without: str = " ") -> list[str]:
    """Everything below src/ and port/ that a compiler reads."""
    files = [path.relative_to(folder).as_posix() for part in ("src", "port") for path in sorted((folder / part).glob("*.[cS]"))]
    return [name for name in files if without not in name]


def run(program: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(program)], capture_output=True, text=True, timeout=60, check=False)


def two_ended_graph() -> Graph:
    """Two inputs of different quantization; three outputs, one of them an input, one of them twice."""
    kind = TensorType(3, 4, 5)
    codes = {"a": Quantization(scale=np.float32(0.5), zero_point=3), "b": Quantization(scale=np.float32(0.25), zero_point=-7)}
    codes["y"] = Quantization(scale=np.float32(0.7), zero_point=1)
    shape = (-1, *kind.shape)
    return Graph(
        name="two ends",
        inputs=tuple(GraphInput(name=name, shape=shape, dtype="float32", value=name) for name in ("a", "b")),
        outputs=tuple(GraphOutput(name=f"out{k}", shape=shape, value=name) for k, name in enumerate(("y", "a", "y"))),
        nodes=(Node(name="sum", op=Add(), inputs=("a", "b"), output="y"),),
        values={name: Value(name=name, type=kind, quantization=q) for name, q in codes.items()},
    )

"""The processor's kernels in C: equal to the golden model, alone and through the driver between the accelerator's programs."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from firmware_support import SANITIZE, compile_c, firmware_input, run, sources, write
from mixed_graphs import mixed_graph

from hwgen.emit.firmware import FirmwareInput, emit_firmware
from hwgen.ops.normalize import Normalize

SEEDS = (1, 2, 4, 12, 19, 61, 83, 85)


def compiled(source: FirmwareInput, folder: Path, flags: str = SANITIZE) -> Path:
    return compile_c(folder, "t", *sources(folder), f"test/{source.prefix}_selftest.c", flags=flags)


@pytest.mark.parametrize("seed", SEEDS)
def test_kernels_and_phases_equal_the_golden_model(seed: int, tmp_path: Path) -> None:
    source = firmware_input(mixed_graph(seed), seed=seed, vectors=3)
    assert source.processor is not None
    write(emit_firmware(source), tmp_path)
    result = run(compiled(source, tmp_path))
    assert (result.returncode, result.stderr) == (0, ""), result.stdout + result.stderr
    assert result.stdout == f"random: 3 known answers, {len(source.graph.nodes)} layers: ok\n"


def test_the_seeds_cover_every_kernel() -> None:
    kernels = [kernel.node.op for seed in SEEDS for group in firmware_input(mixed_graph(seed)).processor.kernels for kernel in group]
    used = {type(op).__name__ for op in kernels}
    assert {op.centered for op in kernels if isinstance(op, Normalize)} == {True, False}
    assert used >= {"Mul", "Div", "Extremum", "MatMul", "Softmax", "Move", "LogSoftmax", "ArgExtremum", "Normalize", "LocalResponse"}


def faulty(folder: Path, seed: int, file: str, pattern: str, replacement: str) -> str:
    source = firmware_input(mixed_graph(seed), seed=seed)
    write(emit_firmware(source), folder)
    path = folder / file.format(p=source.prefix)
    text, count = re.subn(pattern, replacement, path.read_text(), count=1, flags=re.DOTALL)
    assert count == 1
    path.write_text(text)
    result = run(compiled(source, folder, "-O1"))
    assert result.returncode == 1
    return result.stdout


@cache
def telling() -> int:
    """The first seed of a network of several programs whose kernels and outputs are not saturated."""
    for seed in range(100):
        source = firmware_input(mixed_graph(seed), seed=seed)
        network = source.processor
        if network is not None and len(network.phases) > 1 and network.kernels[1]:
            names = [kernel.node.output for kernel in network.kernels[1]] + [output.value for output in network.outputs]
            if all(len(np.unique(source.answers[1].values[name])) > 8 for name in names):
                return seed
    raise AssertionError("no network is like that")


def test_a_wrong_kernel_is_found_in_the_reference(tmp_path: Path) -> None:
    text = faulty(tmp_path, 75, "src/{p}_kernels.c", r"finish\(s, \(left", "finish(s, 900 + (left")
    assert "layer" in text


def test_a_kernel_that_writes_elsewhere_is_found_by_the_driver_test(tmp_path: Path) -> None:
    text = faulty(tmp_path, telling(), "src/{p}_kernels.c", r"npu_pack\(([^;]*)\);", "(void)0;")
    assert "the processor's results were wrong" in text or "differs from its known answer" in text


def test_a_program_that_is_started_twice_is_found(tmp_path: Path) -> None:
    text = faulty(tmp_path, telling(), "src/npu.c", r"device->model->phase_entries\[device->phase\]\)", "device->model->phase_entries[0])")
    assert "driver" in text

"""The example on other array shapes: no mismatch, and stalls on every bus change cycles only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hwgen.build import BuildRequest, build
from hwgen.config import load_hardware
from hwgen.cosim.job import MemoryModel
from hwgen.verify import VerifyRequest, verify

EXAMPLE = Path(__file__).parents[1] / "examples/digits"
ALWAYS = ("8x16",)  # rows and lanes differ; 4x4 is in test_cli.py
REGRESS = ("8x8", "16x8", "16x16", "4x16", "16x4", "32x32")  # each compiles for up to a minute
STALLED = MemoryModel(latency_cycles=11, stall_probability=0.5, seed=4)


@pytest.mark.parametrize("array", [*ALWAYS, *(REGRESS if os.environ.get("HWGEN_REGRESS") else ())])
def test_the_example_on_this_shape(array: str, tmp_path: Path) -> None:
    hardware = load_hardware("16x16", array)
    out = tmp_path / "out"
    report = build(BuildRequest(model=EXAMPLE / "model.onnx", calibration=EXAMPLE / "calibration.npz", out=out, hardware=hardware))
    ideal = verify(VerifyRequest(out=out, inputs=EXAMPLE / "test.npz", count=3))
    assert ideal.equal
    assert ideal.report["verification"]["mismatches"] == 0
    cycles = [inference.cycles for inference in ideal.result.inferences]
    assert max(cycles) - min(cycles) <= 32  # regions of later inferences meet 4 KiB boundaries elsewhere
    assert abs(ideal.report["measured_cycles"] - report["predicted_cycles"]) <= 0.02 * report["predicted_cycles"] + 100
    stalled = verify(VerifyRequest(out=out, inputs=EXAMPLE / "test.npz", count=3, memory=STALLED))
    assert stalled.equal
    assert [i.output for i in stalled.result.inferences] == [i.output for i in ideal.result.inferences]
    assert stalled.report["measured_cycles"] > ideal.report["measured_cycles"]

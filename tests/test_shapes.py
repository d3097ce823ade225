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
ALWAYS = ("32x32", "16x16", "8x16", "16x8", "8x8", "4x4")  # each compiles for up to a minute, the longest first
REGRESS = ("4x16", "16x4", "64x16", "16x64")
STALLED = MemoryModel(latency_cycles=11, stall_probability=0.5, seed=4)


@pytest.mark.parametrize("array", [*ALWAYS, *(REGRESS if os.environ.get("HWGEN_REGRESS") else ())])
def test_the_example_on_this_shape(array: str, tmp_path: Path) -> None:
    hardware = load_hardware("16x16", array)
    out = tmp_path / "out"
    report = build(BuildRequest(model=EXAMPLE / "model.onnx", calibration=EXAMPLE / "calibration.npz", out=out, hardware=hardware))
    ideal = verify(VerifyRequest(out=out, inputs=EXAMPLE / "test.npz", count=3))
    assert ideal.equal
    assert ideal.report["verification"]["mismatches"] == 0
    assert report["weights_resident"]
    predicted = [report["cold_predicted_cycles"], *[report["predicted_cycles"]] * 3]  # the first input runs twice: weights are loaded, then there
    assert [inference.cycles for inference in ideal.result.inferences] == predicted
    stalled = verify(VerifyRequest(out=out, inputs=EXAMPLE / "test.npz", count=3, memory=STALLED))
    assert stalled.equal
    assert [i.output for i in stalled.result.inferences] == [i.output for i in ideal.result.inferences]
    assert stalled.report["measured_cycles"] > ideal.report["measured_cycles"]

"""Measure speed on this machine: build, golden model, co-simulation.

python tools/measure.py [MODEL.onnx CALIBRATION.npz]        (default: the example)
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from hwgen.build import BuildRequest, build
from hwgen.inputs import random_codes
from hwgen.ops.golden import golden_codes
from hwgen.output import read_manifest
from hwgen.verify import VerifyRequest, load_compiled, verify

INFERENCES = 10
GOLDEN_INPUTS = 256


def main() -> None:
    example = Path(__file__).parents[1] / "examples/digits"
    model, calibration = (Path(name) for name in sys.argv[1:3]) if len(sys.argv) > 2 else (example / "model.onnx", example / "calibration.npz")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        start = time.perf_counter()
        build(BuildRequest(model=model, out=out, calibration=calibration))
        built = time.perf_counter() - start
        compiled = load_compiled(out, read_manifest(out))
        codes = random_codes(compiled.graph, GOLDEN_INPUTS)
        golden_codes(compiled.graph, {name: np.ascontiguousarray(array[:8]) for name, array in codes.items()})  # first use of BLAS
        start = time.perf_counter()
        golden_codes(compiled.graph, codes)
        golden = time.perf_counter() - start
        verify(VerifyRequest(out=out, count=1))  # compiles
        result = verify(VerifyRequest(out=out, count=INFERENCES)).result
    print(f"hwgen build             {built:8.2f} s")
    print(f"golden model            {GOLDEN_INPUTS / golden:8,.0f} inputs/s")
    print(f"co-simulation           {result.cycles_per_second:8,.0f} cycles/s wall, {result.total_cycles / result.cpu_seconds:,.0f} cycles/s of CPU time")


if __name__ == "__main__":
    main()

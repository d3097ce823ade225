"""One network through every stage: what it costs, whether it is right, how fast the tools are."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwgen.build import QUANTIZED_MODEL, BuildRequest, build, verilog
from hwgen.frontend.onnx import load_float_graph
from hwgen.frontend.qdq import load_quantized_graph
from hwgen.ir.evaluate import evaluate, from_canonical
from hwgen.ops.golden import golden
from hwgen.quantize.metrics import sqnr_db
from hwgen.verify import VerifyRequest, verify
from tools.open_set import Array, Network

SIMULATED_CYCLES = 1_000_000  # at least so many where the speed of the simulation is measured
GOLDEN_SECONDS = 2.0  # at least so long where the speed of the golden model is measured


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table. Cycles are those of one inference; speeds are per second of CPU time, `build_seconds` is by wall clock."""

    title: str
    metric: str
    macs: int
    predicted_cycles: int
    measured_cycles: int
    utilization: float
    mismatches: int
    compared: int
    evaluated: int
    float_score: float
    integer_score: float
    sqnr_db: float
    certified: int
    channels: int
    golden_per_second: float
    cycles_per_second: float
    build_seconds: float


@dataclass(frozen=True, kw_only=True)
class _Numbers:
    float_score: float
    integer_score: float
    sqnr_db: float
    golden_per_second: float


def measure(network: Network) -> Row:
    """Build, co-simulate one inference, evaluate; then measure speeds."""
    verilog(network.hardware)  # is cached by hardware: no part of a build's time
    with tempfile.TemporaryDirectory() as folder:
        out, calibration, inputs = Path(folder) / "out", Path(folder) / "calibration.npz", Path(folder) / "inputs.npz"
        np.savez(calibration, x=network.calibration)
        np.savez(inputs, x=network.inputs[:1])
        start = time.perf_counter()
        built = build(BuildRequest(model=network.model, out=out, calibration=calibration, hardware=network.hardware))
        build_seconds = time.perf_counter() - start
        once = verify(VerifyRequest(out=out, inputs=inputs, count=1))
        report = once.report
        numbers = _evaluate(network, out)
        repeats = max(1, SIMULATED_CYCLES // report["measured_cycles"])
        again = verify(VerifyRequest(out=out, count=repeats))  # random codes
    return Row(
        title=network.title,
        metric=network.metric,
        macs=report["macs"],
        predicted_cycles=report["predicted_cycles"],
        measured_cycles=report["measured_cycles"],
        utilization=report["utilization"],
        mismatches=report["verification"]["mismatches"] + again.report["verification"]["mismatches"],
        compared=sum(layer["compared"] for layer in report["layers"]),
        evaluated=len(network.inputs),
        certified=built["quantization"]["certified_channels"],
        channels=built["quantization"]["channels"],
        cycles_per_second=again.result.total_cycles / again.result.cpu_seconds,
        build_seconds=build_seconds,
        **vars(numbers),
    )


def _evaluate(network: Network, out: Path) -> _Numbers:
    """Float against integer outputs before a final Softmax, on the whole evaluation set."""
    quantized = load_quantized_graph(out / QUANTIZED_MODEL)
    output = quantized.outputs[0]
    arrays = {quantized.inputs[0].name: network.inputs}
    reference = evaluate(load_float_graph(network.model), arrays, softmax=False)[output.name]
    codes = golden(quantized, arrays)[output.value]
    real: Array = from_canonical(output, quantized.values[output.value].quantized.dequantize(codes), softmax=False)
    start, count = time.process_time(), 0
    while time.process_time() < start + GOLDEN_SECONDS:
        golden(quantized, arrays)
        count += len(network.inputs)
    return _Numbers(
        float_score=network.score(reference, network.inputs),
        integer_score=network.score(real, network.inputs),
        sqnr_db=sqnr_db(reference, real),
        golden_per_second=count / (time.process_time() - start),
    )

"""One row of `make bench`: build, co-simulate with an ideal memory and with a slow one, time the cycle model."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hwgen.build import BuildRequest, build, verilog
from hwgen.cosim.job import MemoryModel
from hwgen.errors import HwgenError
from hwgen.output import read_manifest
from hwgen.verify import VerifyRequest, load_compiled, verify
from tools.bench_cases import Case, is_trained
from tools.open_set import from_open_set, open_set
from tools.seeded_networks import SHAPES, write
from tools.seeded_networks import inputs as seeded_inputs

SLOW_LATENCY = 20  # cycles


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a row measured; `problem` when it could not be built or did not end. Cycles are those of one inference, where weights stay on the
    chip of one that finds them there (`cold_measured`: of the first); seconds are wall time, `simulated_per_second` cycles per CPU second."""

    case: Case
    trained: bool
    problem: str = ""
    macs: int = 0
    predicted: int = 0
    measured: int = 0
    cold_measured: int | None = None
    slow_predicted: int = 0
    slow_measured: int = 0
    differing: int = 0
    compared: int = 0
    uses: Mapping[str, int] = field(default_factory=dict)
    build_seconds: float = 0.0
    verify_seconds: float = 0.0
    simulation_seconds: float = 0.0
    model_seconds: float = 0.0
    simulated_per_second: float = 0.0

    @property
    def utilization(self) -> float:
        return self.macs / (self.measured * self.case.hardware.multipliers) if self.measured else 0.0


def run(case: Case) -> Found:
    """Raises nothing that the row can say instead."""
    with tempfile.TemporaryDirectory() as name:
        try:
            return _measure(case, Path(name))
        except HwgenError as error:
            problem = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            return Found(case=case, trained=is_trained(case), macs=SHAPES[case.network].macs, problem=problem)


def network_files(case: Case, folder: Path) -> tuple[Path, Path, Path]:
    """Model, calibration inputs and one input to verify with: trained ones where they are at hand."""
    inputs, module = folder / "inputs.npz", open_set()
    if module is None or case.trained is None:
        np.savez(inputs, x=seeded_inputs(case.network, 1))
        return *write(case.network, folder), inputs
    network, calibration = from_open_set(module, case.trained), folder / "calibration.npz"
    np.savez(calibration, x=network.calibration)
    np.savez(inputs, x=network.inputs[:1])
    return network.model, calibration, inputs


def _measure(case: Case, folder: Path) -> Found:
    model, calibration, inputs = network_files(case, folder)
    out = folder / "out"
    verilog(case.hardware)  # is cached by hardware: no part of a build's time
    start = time.perf_counter()
    build(BuildRequest(model=model, out=out, calibration=calibration, hardware=case.hardware))
    build_seconds = time.perf_counter() - start
    start = time.perf_counter()
    ideal = verify(VerifyRequest(out=out, inputs=inputs, count=1))
    verify_seconds = time.perf_counter() - start - ideal.result.build_seconds
    slow = verify(VerifyRequest(out=out, inputs=inputs, count=1, memory=MemoryModel(latency_cycles=SLOW_LATENCY)))
    compiled = load_compiled(out, read_manifest(out))
    start = time.perf_counter()
    resident = compiled.resident is not None
    predicted = compiled.predict(1, resident=resident).total_cycles
    model_seconds = time.perf_counter() - start
    report, layers = ideal.report, (*ideal.report["layers"], *slow.report["layers"])
    assert predicted == report["predicted_cycles"], "the cycle model must not depend on when it runs"
    return Found(
        case=case,
        trained=is_trained(case),
        macs=report["macs"],
        predicted=predicted,
        measured=report["measured_cycles"],
        cold_measured=report["cold_measured_cycles"] if resident else None,
        slow_predicted=compiled.predict(SLOW_LATENCY, resident=resident).total_cycles,
        slow_measured=slow.report["measured_cycles"],
        differing=sum(layer["mismatches"] for layer in layers),
        compared=sum(layer["compared"] for layer in layers),
        uses=report["cycles_by_use"]["total"],
        build_seconds=build_seconds,
        verify_seconds=verify_seconds,
        simulation_seconds=ideal.result.wall_seconds,
        model_seconds=model_seconds,
        simulated_per_second=ideal.result.total_cycles / max(ideal.result.cpu_seconds, 1e-9),
    )

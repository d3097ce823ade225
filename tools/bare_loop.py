"""The co-simulation as shipped against a bare C++ loop around the same Verilog, in one run: what bench, memory model, checks and traces cost.

    python tools/bare_loop.py [ROW]          a row of tools/bench.py, by default resnet8

Both simulate the same inferences, in turns; the best CPU time of each counts. Their outputs must be equal.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from hwgen.build import VERILOG, BuildRequest, build, cycle_limit
from hwgen.config import Bus
from hwgen.cosim import script
from hwgen.cosim.job import MemoryModel, SimulationJob
from hwgen.cosim.memory import memory_map, segments
from hwgen.cosim.runner import inference_operations, setup_operations, simulate
from hwgen.cosim.simulator import compile_cached
from hwgen.output import read_manifest
from hwgen.verify import input_codes, load_compiled, simulation_job
from tools.bench_cases import CASES, Case
from tools.bench_run import network_files
from tools.seeded_networks import SHAPES

TURNS = 3
LEAST_CYCLES = 2_000_000  # per turn


@dataclass(frozen=True, kw_only=True)
class Speeds:
    """Simulated cycles per second of CPU time: the bench as `hwgen verify` runs it, without traces, and the C++ loop."""

    shipped: float
    untraced: float
    bare: float

    @property
    def ratio(self) -> float:
        return self.shipped / self.bare


def prepared_job(case: Case, folder: Path) -> SimulationJob:
    """So many inferences of random codes that a turn takes LEAST_CYCLES."""
    model, calibration, _ = network_files(case, folder)
    out = folder / "out"
    build(BuildRequest(model=model, out=out, calibration=calibration, hardware=case.hardware))
    compiled = load_compiled(out, read_manifest(out))
    codes = input_codes(compiled, None, -(-LEAST_CYCLES // compiled.prediction.total_cycles))
    return simulation_job(compiled, (out / VERILOG).read_text(encoding="utf-8"), codes, MemoryModel(), cycle_limit(compiled))


def bare_seconds(job: SimulationJob, folder: Path) -> tuple[int, float, bytes]:
    """Cycles, CPU seconds and the dumped outputs of the bare loop."""
    assert job.config.bus is Bus.AXI4, "the loop knows AXI only"
    flags = ("--top-module", "hwgen_accelerator", "-CFLAGS", f"-DBUS_BYTES={job.config.bus_bytes}")
    program, _ = compile_cached(job.verilog, (Path(__file__).with_suffix(".cpp"),), flags)
    places = memory_map(job)
    memory = bytearray(places.end + job.config.bus_bytes)
    for address, content in segments(job, places):
        memory[address : address + len(content)] = content
    operations = [*setup_operations(job, places), *(o for k in range(len(job.inputs)) for o in inference_operations(job, places, k))]
    (folder / "memory.bin").write_bytes(memory)
    (folder / "script.hex").write_text(script.encode_script(operations))
    command = [str(program), "memory.bin", "script.hex", "dump.bin"]
    cycles, seconds = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=600).stdout.split()
    return int(cycles), float(seconds), (folder / "dump.bin").read_bytes()


def compare(case: Case) -> Speeds:
    """Raises AssertionError where the two disagree on an output."""
    shipped, untraced, bare = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = prepared_job(case, folder)
        for _ in range(TURNS):
            result = simulate(replace(job, trace=True))
            result.check()
            shipped.append(result.total_cycles / result.cpu_seconds)
            plain = simulate(replace(job, trace=False))
            untraced.append(plain.total_cycles / plain.cpu_seconds)
            cycles, seconds, dump = bare_seconds(job, folder)
            bare.append(cycles / seconds)
            stride = len(dump) // len(job.inputs)
            assert [dump[k * stride :][: job.output_bytes] for k in range(len(job.inputs))] == [i.output for i in result.inferences]
    return Speeds(shipped=max(shipped), untraced=max(untraced), bare=max(bare))


def line(case: Case, speeds: Speeds) -> str:
    array = f"{case.hardware.out_lanes}x{case.hardware.in_lanes}"
    return (
        f"Co-simulation with bench, memory model, AXI checks and traces: {speeds.shipped:,.0f} cycles/s, without traces {speeds.untraced:,.0f}; "
        f"bare C++ loop around the same Verilog: {speeds.bare:,.0f} cycles/s; ratio {speeds.ratio:.0%} ({SHAPES[case.network].title}, {array})"
    )


if __name__ == "__main__":
    chosen = CASES[sys.argv[1] if len(sys.argv) > 1 else "resnet8"]
    print(line(chosen, compare(chosen)))

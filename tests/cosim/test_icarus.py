"""The whole machine under a second simulator: Icarus gives the same bytes, results and cycles as Verilator."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from system_support import CONFIGS, job_of, render, several_outputs_and_residuals

from hwgen.cosim import runner, script
from hwgen.cosim.job import MemoryModel, SimulationJob
from hwgen.cosim.memory import memory_image, memory_map, segments
from hwgen.cosim.simulator import bench_sources, trace_scope

MEMORY_WORDS_LOG2 = 16
CLOCK = f"""module clock;
  reg clk = 0; wire finished;
  always #5 clk = ~clk;
  always @(posedge clk) if (finished) $finish(0);
  bench #(.BUS_BITS(BUS), .LANES(N), .MEMORY_WORDS_LOG2({MEMORY_WORDS_LOG2})) bench(.clk(clk), .finished(finished));
endmodule
"""


def write_files(job: SimulationJob, folder: Path) -> None:
    places = memory_map(job)
    assert places.end < job.config.bus_bytes << MEMORY_WORDS_LOG2
    operations = runner.setup_operations(job, places)
    for index in range(len(job.inputs)):
        operations += runner.inference_operations(job, places, index)
    (folder / "memory.hex").write_text(memory_image(segments(job, places), job.config.bus_bytes))
    (folder / "script.hex").write_text(script.encode_script(operations))
    (folder / "clock.v").write_text(CLOCK.replace("BUS)", f"{job.config.bus_bits})").replace("LANES(N)", f"LANES({job.config.in_lanes})"))
    (folder / "accelerator.v").write_text(job.verilog)


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog is not installed")
@pytest.mark.parametrize("memory", [MemoryModel(), MemoryModel(latency_cycles=6, stall_probability=0.3, seed=8, aligned=False)], ids=["ideal", "stalled"])
def test_a_network_gives_the_same_on_icarus(memory: MemoryModel, tmp_path: Path) -> None:
    network = several_outputs_and_residuals(CONFIGS["4x4"])
    job, _ = job_of(network, 1, memory)
    wanted = runner.simulate(job)
    wanted.check()
    write_files(replace(job, verilog=render(network.config)), tmp_path)
    sources = ["clock.v", *map(str, bench_sources(network.config.bus)), "accelerator.v"]
    command = ["iverilog", "-g2005", f"-DTRACE_SCOPE={trace_scope(job.verilog)}", "-s", "clock", "-o", "sim", *sources]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    subprocess.run(["vvp", "sim", *runner._arguments(job)], cwd=tmp_path, check=True, capture_output=True, timeout=300)
    log = (tmp_path / "log.txt").read_text().splitlines()
    (found,) = runner._inferences(log, (tmp_path / "dump.bin").read_bytes(), job)
    assert not [line for line in log if line.startswith("violation")]
    assert (found.output, dict(found.registers), found.bench_cycles) == (
        wanted.inferences[0].output, dict(wanted.inferences[0].registers), wanted.inferences[0].bench_cycles
    )  # fmt: skip
    trace = runner.read_trace((tmp_path / "trace.bin").read_bytes(), network.config.in_lanes)
    assert wanted.trace is not None
    for name in ("command", "cycle", "address", "mask"):
        assert (getattr(trace, name) == getattr(wanted.trace, name)).all(), name
    assert (trace.data == wanted.trace.data)[trace.mask].all()

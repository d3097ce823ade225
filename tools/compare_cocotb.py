"""The speed of `hwgen verify`'s simulation against the same bench under cocotb, in one run (docs/architecture.md quotes it).

    python tools/compare_cocotb.py OUT [INFERENCES]        OUT: a folder made by hwgen build

Under cocotb the clock is made in a Verilog wrapper (--timing), only the one signal that Python waits for is public, and Python is awake
at start and end only: the fastest way to use it.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cocotb_tools.runner import Verilator

from hwgen.cosim import script
from hwgen.cosim.job import MemoryModel, SimulationJob
from hwgen.cosim.memory import memory_image, memory_map, segments
from hwgen.cosim.runner import inference_operations, setup_operations, simulate
from hwgen.cosim.simulator import bench_sources, trace_scope
from hwgen.cosim.toolchain import environment
from hwgen.inputs import random_codes
from hwgen.output import read_manifest
from hwgen.verify import VERILOG, load_compiled, simulation_job

LIMIT_CYCLES = 1 << 28
WRAPPER = """module wrapper;
  reg clk = 0;
  wire finished;
  always #5 clk = !clk;
  bench #(.BUS_BITS({bus}), .ADDRESS_BITS({address}), .LANES({lanes}), .MEMORY_WORDS_LOG2({words})) bench(.clk(clk), .finished(finished));
endmodule
"""
PUBLIC = '`verilator_config\npublic_flat_rw -module "wrapper" -var "finished"\n'


class OnePublicSignal(Verilator):
    """cocotb's runner without its --public-flat-rw, which makes every signal of the design public and costs most of the speed."""

    def _build_command(self) -> list[Sequence[str]]:
        return [[word for word in command if word != "--public-flat-rw"] for command in super()._build_command()]


def job_of(out: Path, inferences: int) -> SimulationJob:
    compiled = load_compiled(out, read_manifest(out))
    codes = random_codes(compiled.graph, inferences)
    return simulation_job(compiled, (out / VERILOG).read_text(encoding="utf-8"), codes, MemoryModel(), LIMIT_CYCLES)


def under_cocotb(job: SimulationJob, folder: Path) -> tuple[float, float, bytes]:
    """Wall and CPU seconds of the simulation, and the trace that it wrote."""
    places, config = memory_map(job), job.config
    operations = [*setup_operations(job, places), *(o for k in range(len(job.inputs)) for o in inference_operations(job, places, k))]
    words = (1 << 22) // config.bus_bytes
    assert places.end <= 1 << 22, "a network of this size needs a larger memory here"
    wrapper = WRAPPER.format(bus=config.bus_bits, address=config.address_bits, lanes=config.in_lanes, words=(words - 1).bit_length())
    files = {"memory.hex": memory_image(segments(job, places), config.bus_bytes), "script.hex": script.encode_script(operations)}
    bench = {source.name: source.read_text() for source in bench_sources(config.bus)}
    files |= {"accelerator.v": job.verilog, **bench, "wrapper.v": wrapper, "public.vlt": PUBLIC}
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    runner = OnePublicSignal()
    flags = ["--timing", "-O3", "--x-assign", "fast", "--x-initial", "unique", "-Wno-fatal", "-Wno-lint", "-Wno-style"]
    flags += [f"-DTRACE_SCOPE={trace_scope(job.verilog)}"]
    sources = [folder / name for name in ("public.vlt", "wrapper.v", *bench, "accelerator.v")]
    runner.build(sources=sources, hdl_toplevel="wrapper", build_args=flags, build_dir=folder, timescale=("1ns", "1ps"), log_file=folder / "build.log")
    arguments = [f"+{kind}={kind}.{end}" for kind, end in (("memory", "hex"), ("script", "hex"), ("log", "txt"), ("dump", "bin"), ("trace", "bin"))]
    common = {"hdl_toplevel": "wrapper", "build_dir": folder, "test_dir": folder, "log_file": folder / "run.log"}
    runner.test(test_module="tools.cocotb_until_finished", plusargs=arguments, **common)
    wall, cpu = (float(word) for word in (folder / "speed.txt").read_text().split())
    return wall, cpu, (folder / "trace.bin").read_bytes()


def main() -> None:
    out, inferences = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 20
    os.environ.update(environment())
    os.environ["MAKEFLAGS"] = f"{os.environ.get('MAKEFLAGS', '')} OPT_FAST=-O2 OPT_GLOBAL=-O2"  # as hwgen verify compiles
    job = job_of(out, inferences)
    simulate(job)  # compiles
    loop = simulate(job)
    assert loop.trace is not None
    with tempfile.TemporaryDirectory() as name:
        wall, cpu, trace = under_cocotb(job, Path(name))
    record_bytes = len(trace) // len(loop.trace.cycle)
    assert len(trace) == record_bytes * len(loop.trace.cycle), "both must write as many results"
    print(f"{loop.total_cycles:,} cycles, {inferences} inferences")
    for title, seconds, busy in (("C++ loop", loop.wall_seconds, loop.cpu_seconds), ("cocotb", wall, cpu)):
        print(f"{title:10s}{loop.total_cycles / seconds:12,.0f} cycles/s wall{loop.total_cycles / busy:12,.0f} cycles/s of CPU time")


if __name__ == "__main__":
    main()

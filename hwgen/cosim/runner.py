"""Runs a program on the emitted Verilog: plays the host, reads back outputs, counters and the trace of results."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from hwgen.children import end, started
from hwgen.cosim import script
from hwgen.cosim.job import CommandTrace, InferenceResult, SimulationJob, SimulationResult, Trace
from hwgen.cosim.memory import MemoryMap, all_patches, memory_image, memory_map, segments
from hwgen.cosim.script import Operation
from hwgen.cosim.simulator import Simulator, compile_simulator
from hwgen.errors import MismatchError, ToolError
from hwgen.isa.fields import Region
from hwgen.isa.registers import CAUSES, COUNTERS, REGISTERS

LOGGED = ("status", "error", "error_command", "error_address", *COUNTERS)
_BUSY = 1  # of register status
_LEAST_POLLS, _MOST_POLLS = 1000, 65535  # each takes at least 3 cycles
_REGISTER_NAMES = {register.offset: register.name for register in REGISTERS}


Progress = Callable[[int], None]


def setup_operations(job: SimulationJob, places: MemoryMap) -> list[Operation]:
    """What the host writes once."""
    operations = [script.write("watchdog", job.watchdog_cycles), script.write("program_entry", job.program_entry), script.write("interrupt_enable", 3)]
    for region in Region:
        operations += [*_base_operations(region, places, 0), script.write(f"{region.name.lower()}_size", places.size(region))]
    return operations


def _base_operations(region: Region, places: MemoryMap, inference: int) -> list[Operation]:
    name, base = region.name.lower(), places.base(region, inference)
    return [script.write(f"{name}_base", base), script.write(f"{name}_base_high", base >> 32)]


def inference_operations(job: SimulationJob, places: MemoryMap, index: int) -> list[Operation]:
    """What the host does for one inference, program by program: its own part, regions, start, wait, read the registers, save the output."""
    word = job.config.bus_bytes
    operations: list[Operation] = []
    for phase in range(job.phases):
        operations.append(script.begin_inference(index * job.phases + phase))
        operations += _patch_operations(job, places, index, phase)
        entry = job.phase_entries[phase - 1] if phase else job.program_entry if index == 0 or job.later_entry is None else job.later_entry
        if job.phases > 1 or (index and job.later_entry is not None):
            operations.append(script.write("program_entry", entry))
        for region in (Region.INPUT, Region.OUTPUT):
            operations += _base_operations(region, places, index)
        # The interrupt of an error comes at once; transactions under way may still write.
        wait_idle = script.poll("status", _BUSY, min(_MOST_POLLS, _LEAST_POLLS + job.memory.latency_cycles))
        operations += [script.write("control", 1), script.wait_irq(job.cycle_limit), wait_idle, script.write("interrupt_status", 3)]
        operations += [script.read(name) for name in LOGGED]
        if phase == job.phases - 1:
            operations += _patch_operations(job, places, index, job.phases)
        operations.append(script.dump(places.offset(Region.OUTPUT, index) // word, -(-job.output_bytes // word)))
    return operations


def _patch_operations(job: SimulationJob, places: MemoryMap, inference: int, phase: int) -> list[Operation]:
    """The processor writes what it has computed."""
    word = job.config.bus_bytes
    operations: list[Operation] = []
    for number, (which, before, patch) in enumerate(all_patches(job)):
        if (which, before) == (inference, phase):
            target = places.offset(patch.region, inference) + patch.offset
            operations += script.copy(places.patches[number] // word, target // word, len(patch.content) // word)
    return operations


def _arguments(job: SimulationJob) -> list[str]:
    memory = job.memory
    arguments = ["+memory=memory.hex", "+script=script.hex", "+log=log.txt", "+dump=dump.bin", f"+latency={max(1, memory.latency_cycles)}"]
    arguments += [f"+stall={min(255, round(256 * memory.stall_probability))}", f"+seed={memory.seed & 0x7FFFFFFF}"]
    arguments += ["+trace=trace.bin", "+commands=commands.bin"] if job.trace else []
    arguments += [f"+base={memory.first_address:x}"] if memory.first_address else []
    arguments += [f"+read_error={memory.read_error:x}"] if memory.read_error is not None else []
    arguments += [f"+write_error={memory.write_error:x}"] if memory.write_error is not None else []
    if job.random_start is not None:
        arguments += ["+verilator+rand+reset+2", f"+verilator+seed+{job.random_start % 0x7FFFFFFF + 1}"]
    return arguments


@contextlib.contextmanager
def _time_limit(process: subprocess.Popen[str], seconds: float) -> Iterator[threading.Event]:
    """Kills `process` after `seconds`; the event says that it happened."""
    expired = threading.Event()

    def stop() -> None:
        expired.set()
        end(process)

    timer = threading.Timer(seconds, stop)
    timer.start()
    try:
        yield expired
    finally:
        timer.cancel()


def _execute(simulator: Simulator, arguments: list[str], folder: Path, limit_seconds: float, progress: Progress | None) -> str:
    """Run the simulation; returns its last line. Raises ToolError when it crashes, MismatchError when it runs longer than allowed."""
    lines: list[str] = [""]
    program = str(simulator.program)
    try:
        with started([program, *arguments], folder, subprocess.PIPE, text=True) as process, _time_limit(process, limit_seconds) as expired:
            assert process.stdout is not None
            for line in process.stdout:
                lines = [*lines[-10:], line.strip()]
                if progress is not None and line.startswith("inference "):
                    progress(int(line.split()[1]))
            code = process.wait()
    except OSError as error:
        raise ToolError(f"co-simulation: {program!r} cannot be started ({error.strerror}); set HWGEN_CACHE to a folder where they can") from error
    if expired.is_set():
        raise MismatchError(f"co-simulation: must end within {limit_seconds:g} s, stopped; the accelerator hangs, or too many inferences were asked for")
    if code or not lines[-1].startswith("finished "):
        raise ToolError(f"co-simulation: the simulation ended with exit code {code}:\n" + "\n".join(f"  {line}" for line in lines if line))
    return lines[-1]


def read_trace(content: bytes, lanes: int) -> Trace:
    """The binary trace of the bench: 32-bit words inference, command, cycle, address, then mask and data from the lowest bit up."""
    mask_bytes = 4 * -(-lanes // 32)
    words = [("inference", "<u4"), ("command", "<u4"), ("cycle", "<u4"), ("address", "<u4")]
    record = np.dtype([*words, ("mask", np.uint8, mask_bytes), ("data", np.int8, lanes)])
    found = np.frombuffer(content, record)
    mask = np.unpackbits(found["mask"], axis=1, bitorder="little")[:, :lanes].astype(bool)
    as_int = {name: found[name].astype(np.int64) for name in ("inference", "command", "cycle", "address")}
    return Trace(**as_int, mask=mask, data=found["data"].copy())


def read_commands(content: bytes) -> CommandTrace:
    """The binary record of CONV commands: 32-bit words inference, accepted, first, last, done, then one per cause."""
    names = ("inference", "ended", "accepted", "first", "last", "done")
    found = np.frombuffer(content, "<u4").reshape(-1, len(names) + len(CAUSES)).astype(np.int64)
    return CommandTrace(**{name: found[:, k] for k, name in enumerate(names)}, counts=found[:, len(names) :])


def _inferences(log: Sequence[str], dump: bytes, job: SimulationJob) -> tuple[InferenceResult, ...]:
    registers: list[dict[str, int]] = [dict.fromkeys(LOGGED, 0) for _ in range(job.runs)]
    cycles, finished = [0] * job.runs, [False] * job.runs
    for line in log:
        kind, *values = line.split()
        if kind == "read":
            registers[int(values[0])][_REGISTER_NAMES[int(values[1], 16)]] = int(values[2].replace("x", "0"), 16)
        elif kind in ("irq", "timeout"):
            cycles[int(values[0])], finished[int(values[0])] = int(values[1]), kind == "irq"
    stride = -(-job.output_bytes // job.config.bus_bytes) * job.config.bus_bytes
    outputs = [dump[k * stride :][: job.output_bytes] for k in range(job.runs)]
    return tuple(InferenceResult(output=outputs[k], registers=registers[k], bench_cycles=cycles[k], finished=finished[k]) for k in range(job.runs))


def simulate(job: SimulationJob, *, progress: Progress | None = None) -> SimulationResult:
    """Run every inference of `job` one after the other, without reset between them. `progress` is told the index of each that begins.

    An inference that stops with an error or raises no interrupt within `cycle_limit` is reported in the result (`check` raises);
    none is started after one without interrupt. Raises ToolError for missing or failing tools, MismatchError for a simulation that
    exceeds `wall_limit_seconds`.
    """
    places = memory_map(job)
    simulator = compile_simulator(job.verilog, job.config, needed_bytes=places.end, optimized=job.optimized)
    operations = setup_operations(job, places)
    for index in range(len(job.inputs)):
        operations += inference_operations(job, places, index)
    with tempfile.TemporaryDirectory(prefix="hwgen-") as name:
        folder = Path(name)
        (folder / "memory.hex").write_text(memory_image(segments(job, places), job.config.bus_bytes))
        (folder / "script.hex").write_text(script.encode_script(operations))
        last = _execute(simulator, _arguments(job), folder, job.wall_limit_seconds, progress)
        log = (folder / "log.txt").read_text().splitlines()
        trace = read_trace((folder / "trace.bin").read_bytes(), job.config.in_lanes) if job.trace else None
        commands = read_commands((folder / "commands.bin").read_bytes()) if job.trace else None
        inferences = _inferences(log, (folder / "dump.bin").read_bytes(), job)
    _, cycles, _, wall, _, cpu, _, load, _ = last.split()
    return SimulationResult(
        inferences=inferences,
        trace=trace,
        commands=commands,
        violations=tuple(line.removeprefix("violation ") for line in log if line.startswith("violation ")),
        total_cycles=int(cycles),
        wall_seconds=float(wall),
        cpu_seconds=float(cpu),
        load_seconds=float(load),
        build_seconds=simulator.build_seconds,
    )

"""A co-simulation as data: what is to run, and what came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hwgen.config import HardwareConfig
from hwgen.errors import MismatchError
from hwgen.isa.fields import Engine, Region
from hwgen.isa.registers import ErrorCode


@dataclass(frozen=True, kw_only=True)
class MemoryModel:
    """How the system memory behaves. `stall_probability` (0..1) holds every handshake of both buses back, at random from `seed`;
    an access to the bus word of `read_error` or `write_error` (byte addresses) gets an error response. `aligned`: regions begin on 4 KiB
    boundaries, as a host would place them; else at any bus word. The memory begins at `first_address`, a multiple of 4 KiB."""

    latency_cycles: int = 1
    stall_probability: float = 0.0
    seed: int = 1
    aligned: bool = True
    first_address: int = 0
    read_error: int | None = None
    write_error: int | None = None


@dataclass(frozen=True, kw_only=True)
class Patch:
    """What the processor writes: `content`, whole bus words, from byte `offset` of a region (input and output: of the inference's own) on."""

    region: Region
    offset: int
    content: bytes


@dataclass(frozen=True, kw_only=True)
class SimulationJob:
    """One program and the inferences to run on it. `inputs` holds the image of the input region for each inference.

    An inference of a network with processor kernels takes several runs: the first program, then those at `phase_entries`; `patches[i][k]`
    is what the processor has computed before program k of inference i, or behind the last one.

    The first inference starts at `program_entry`, the others at `later_entry` where that is given: a program that finds its weights in
    the buffers.
    `random_start`: seed of the contents of all registers and memories before reset (None: zeros).
    `optimized`: the simulation is compiled to be fast; else to be there soon, for runs of up to a million cycles.
    """

    verilog: str
    config: HardwareConfig
    program: bytes
    weights: bytes
    arena_bytes: int
    inputs: tuple[bytes, ...]
    output_bytes: int
    program_entry: int = 0
    later_entry: int | None = None
    phase_entries: tuple[int, ...] = ()
    patches: tuple[tuple[tuple[Patch, ...], ...], ...] = ()
    watchdog_cycles: int = 0
    cycle_limit: int = 1 << 28  # per inference, enforced by the bench
    wall_limit_seconds: float = 3600.0
    memory: MemoryModel = field(default_factory=MemoryModel)
    trace: bool = True
    random_start: int | None = None
    optimized: bool = True

    @property
    def phases(self) -> int:
        """Runs of one inference."""
        return 1 + len(self.phase_entries)

    @property
    def runs(self) -> int:
        """Of all inferences; results and traces count them."""
        return self.phases * len(self.inputs)

    def patches_of(self, inference: int, phase: int) -> tuple[Patch, ...]:
        """What is written before that phase, or, if it is the number of phases, behind the last."""
        found = self.patches[inference] if self.patches else ()
        return found[phase] if phase < len(found) else ()


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Every result written by the compute engine, in order; n records of the N lanes of an activation word.

    inference, command (index among the compute commands of the inference), cycle (since the start), address (word): (n,) int;
    mask: (n, N) bool; data: (n, N) int8.
    """

    inference: npt.NDArray[np.int64]
    command: npt.NDArray[np.int64]
    cycle: npt.NDArray[np.int64]
    address: npt.NDArray[np.int64]
    mask: npt.NDArray[np.bool_]
    data: npt.NDArray[np.int8]

    def part(self, first: int, end: int) -> Trace:
        """Inferences [first, end), counted from 0."""
        return Trace(**_part(vars(self), first, end))

    def every(self, phases: int, phase: int) -> Trace:
        """Of the runs of inferences with so many phases those of one phase, counted as inferences."""
        return Trace(**_every(vars(self), phases, phase))


@dataclass(frozen=True, kw_only=True)
class CommandTrace:
    """Every CONV that was done, in order, and behind those of an inference the whole run (`ended`); n records.

    inference, ended, accepted, first, last (cycle of its first and last pixel), done: (n,) int, cycles of the run from 0;
    done of a run is its number of cycles.
    counts: (n, causes) int, cycles of each cause of isa.registers.CAUSES before `done`, from the beginning of the run.
    """

    inference: npt.NDArray[np.int64]
    ended: npt.NDArray[np.int64]
    accepted: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]
    done: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]

    def part(self, first: int, end: int) -> CommandTrace:
        """Inferences [first, end), counted from 0."""
        return CommandTrace(**_part(vars(self), first, end))

    def every(self, phases: int, phase: int) -> CommandTrace:
        """As `Trace.every`."""
        return CommandTrace(**_every(vars(self), phases, phase))


def _part(columns: Mapping[str, npt.NDArray[Any]], first: int, end: int) -> dict[str, npt.NDArray[Any]]:
    chosen = (columns["inference"] >= first) & (columns["inference"] < end)
    return {name: column[chosen] for name, column in columns.items()} | {"inference": columns["inference"][chosen] - first}


def _every(columns: Mapping[str, npt.NDArray[Any]], phases: int, phase: int) -> dict[str, npt.NDArray[Any]]:
    chosen = columns["inference"] % phases == phase
    return {name: column[chosen] for name, column in columns.items()} | {"inference": columns["inference"][chosen] // phases}


@dataclass(frozen=True, kw_only=True)
class InferenceResult:
    """What one inference (one run of it) left: the output region, the registers at its end, and the cycles from start to irq as the bench counted."""

    output: bytes
    registers: Mapping[str, int]
    bench_cycles: int
    finished: bool

    @property
    def cycles(self) -> int:
        return self.registers["cycles"]

    @property
    def error(self) -> ErrorCode | None:
        """Why it failed; None when it did not."""
        if not self.registers["status"] >> 2 & 1:
            return None
        code = self.registers["error"] & 0xFF
        return ErrorCode(code) if code in list(ErrorCode) else ErrorCode.NONE

    def explain(self) -> str:
        """One line on how the inference ended."""
        if not self.finished:
            return f"no interrupt within {self.bench_cycles} cycles"
        if self.error is None:
            return "done"
        engine = self.registers["error"] >> 8 & 3
        name = Engine(engine).name.lower() + " engine" if engine in list(Engine) else "sequencer"
        return f"stopped with error {self.error.name} ({name}) at command {self.registers['error_command']}, address {self.registers['error_address']:#x}"


@dataclass(frozen=True, kw_only=True)
class SimulationResult:
    """All inferences of a job; of those with several phases, all runs. `violations` are rules of the bus that the accelerator broke.

    `wall_seconds` and `cpu_seconds` of the clock's loop; before it `load_seconds` went into reading the memory image.
    """

    inferences: tuple[InferenceResult, ...]
    trace: Trace | None
    commands: CommandTrace | None
    violations: tuple[str, ...]
    total_cycles: int
    wall_seconds: float
    cpu_seconds: float
    load_seconds: float
    build_seconds: float

    @property
    def cycles_per_second(self) -> float:
        """Simulated cycles per second of wall time, from the clock's first edge to its last."""
        return self.total_cycles / max(self.wall_seconds, 1e-9)

    def check(self) -> None:
        """Raises MismatchError when an inference failed or did not end, or a bus rule was broken."""
        for index, inference in enumerate(self.inferences):
            if not inference.finished or inference.error is not None:
                raise MismatchError(f"co-simulation, inference {index}: the accelerator must reach END, {inference.explain()}")
        if self.violations:
            count = len(self.violations)
            raise MismatchError(f"co-simulation: the accelerator must keep the rules of its bus, {count} violations; first: {self.violations[0]}")

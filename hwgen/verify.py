"""`verify`: the emitted Verilog runs the emitted program; every word of every layer is compared with the golden model.

Where there is a resident program, the first input runs twice: by the cold one, and with all others by the resident one.
Nothing is taken from the build's memory: network, program, weights and Verilog are read from the folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hwgen.arrays import AnyArray, read_network_arrays
from hwgen.build import QUANTIZED_MODEL, VERILOG, cycle_limit
from hwgen.config import Machine
from hwgen.cosim.compare import LayerComparison, LayerExpectation, PartExpectation, compare, compute_ordinals
from hwgen.cosim.job import MemoryModel, Patch, SimulationJob, SimulationResult, Trace
from hwgen.cosim.runner import simulate
from hwgen.errors import MismatchError, OutputError
from hwgen.frontend.qdq import load_quantized_graph
from hwgen.inputs import random_codes
from hwgen.ir.evaluate import to_canonical
from hwgen.isa.fields import Region
from hwgen.isa.registers import COUNTERS
from hwgen.layout import Int8Array
from hwgen.network import for_hardware
from hwgen.ops.golden import golden_codes
from hwgen.output import REPORT_FOLDER, REPORT_HTML, REPORT_JSON, Manifest, check_files, read_manifest, write_file
from hwgen.progress import Progress, Silent
from hwgen.report.collect import FORMAT, Json, LayerCycles, cycles_of_layers, to_json, verification_report
from hwgen.report.html import render_html
from hwgen.report.lost import LostCycles, lost_cycles, with_lost
from hwgen.schedule.compile import CompiledNetwork, Routine, compile_network

DEFAULT_COUNT = 2
# What the trace, which counts from the write of the control register, shows for the last result of a command that is done in cycle 0 of the
# program. The serial machine is done with a command some cycles after its last result.
_TRACED = {Machine.PARALLEL: 3, Machine.SERIAL: -2}


@dataclass(frozen=True, kw_only=True)
class VerifyRequest:
    """`inputs` absent: random codes. `count` inputs (default: all of the file up to DEFAULT_COUNT)."""

    out: Path
    inputs: Path | None = None
    count: int | None = None
    memory: MemoryModel = field(default_factory=MemoryModel)


@dataclass(frozen=True, kw_only=True)
class Verification:
    """The report as rewritten, the layers as compared, and the simulation."""

    report: Json
    layers: tuple[LayerComparison, ...]
    result: SimulationResult

    @property
    def equal(self) -> bool:
        return all(layer.equal for layer in self.layers) and not self.result.violations


def read_report(out: Path) -> Json:
    """The report that `build` wrote. Raises OutputError when it is absent, damaged or of another version."""
    try:
        content = json.loads((out / REPORT_JSON).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(f"folder {out.name!r}: {REPORT_JSON} cannot be read; build again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise OutputError(f"folder {out.name!r}: {REPORT_JSON} must be a report of format {FORMAT}; build again")
    return content


def write_report(out: Path, report: Json) -> None:
    """Replaces the report of a built folder, inside it and nowhere else."""
    if (out / REPORT_FOLDER).is_symlink():
        raise OutputError(f"folder {out.name!r}: {REPORT_FOLDER} must be a folder, is a link; build again")
    write_file(out / REPORT_JSON, to_json(report))
    write_file(out / REPORT_HTML, render_html(report))


def load_compiled(out: Path, manifest: Manifest) -> CompiledNetwork:
    """Compile the network that lies in `out` and check that the result is the program that lies there."""
    check_files(out, manifest)
    graph = replace(load_quantized_graph(out / QUANTIZED_MODEL), name=manifest.network)
    compiled = compile_network(for_hardware(graph, manifest.hardware), manifest.hardware)
    for name, content in (("program/program.bin", compiled.program), ("program/weights.bin", compiled.weights)):
        if (out / name).read_bytes() != content:
            raise MismatchError(f"folder {out.name!r}: {name} must be what this hwgen compiles from {QUANTIZED_MODEL}; built by another version, build again")
    return compiled


def input_codes(compiled: CompiledNetwork, arrays: Mapping[str, AnyArray] | None, count: int | None) -> dict[str, Int8Array]:
    """int8 (N, H, W, C) by input value name: the first `count` of `arrays`, or random codes."""
    graph = compiled.graph
    if arrays is None:
        return random_codes(graph, count or DEFAULT_COUNT)
    return {
        entry.value: graph.values[entry.value].quantized.quantize(to_canonical(entry, arrays[entry.name][: count or DEFAULT_COUNT])) for entry in graph.inputs
    }


def input_images(compiled: CompiledNetwork, codes: Mapping[str, Int8Array]) -> tuple[bytes, ...]:
    """The input region of each inference."""
    size = compiled.region_bytes()[Region.INPUT]
    images = np.zeros((len(next(iter(codes.values()))), size), np.int8)
    for tensor in compiled.inputs:
        images[:, tensor.offset : tensor.offset + tensor.size_bytes] = tensor.layout.pack(codes[tensor.value])
    return tuple(image.tobytes() for image in images)


def expectations(compiled: CompiledNetwork, codes: Mapping[str, Int8Array], routine: Routine | None = None) -> tuple[LayerExpectation, ...]:
    """What each layer must write, by the golden model, when `routine` (the cold one) runs."""
    routine = routine or compiled.cold
    values = golden_codes(compiled.graph, codes, keep={layer.value for layer in routine.layers})
    ordinal = compute_ordinals(routine.commands)
    return tuple(
        LayerExpectation(
            name=layer.name,
            parts=tuple(PartExpectation(command=ordinal[part.command], box=part.box, view=part.view) for part in layer.parts),
            positions=compiled.positions[layer.value],
            golden=values[layer.value],
        )
        for layer in routine.layers
    )


def inference_codes(compiled: CompiledNetwork, codes: Mapping[str, Int8Array]) -> dict[str, Int8Array]:
    """Of each inference to be simulated, from those of each input."""
    return {name: np.concatenate([x[:1], x]) if compiled.resident else x for name, x in codes.items()}


def layer_comparisons(compiled: CompiledNetwork, codes: Mapping[str, Int8Array], trace: Trace) -> tuple[LayerComparison, ...]:
    """Every layer in every inference, of which all but the first run the resident program where there is one."""
    words, count, phases = compiled.config.activation_words, len(next(iter(codes.values()))), compiled.phases
    if compiled.resident is None:
        each = [compare(expectations(compiled, codes, phase), trace.every(len(phases), k), words) for k, phase in enumerate(phases)]
        return tuple(layer for found in each for layer in found)
    cold, others = ({name: x[part] for name, x in codes.items()} for part in (slice(0, 1), slice(1, None)))
    found = compare(expectations(compiled, cold), trace.part(0, 1), words)
    later = compare(expectations(compiled, others, compiled.resident), trace.part(1, count), words)
    return tuple(layer.joined(again, 1) for layer, again in zip(found, later, strict=True))


def output_comparison(compiled: CompiledNetwork, codes: Mapping[str, Int8Array], result: SimulationResult) -> None:
    """The output region as the host sees it. Raises MismatchError naming the first output that differs."""
    values, phases = golden_codes(compiled.graph, codes), len(compiled.phases)
    for tensor in compiled.outputs:
        images = np.stack([np.frombuffer(i.output, np.int8)[tensor.offset :][: tensor.size_bytes] for i in result.inferences[phases - 1 :: phases]])
        wrong = int((tensor.layout.unpack(images) != values[tensor.value]).sum())
        if wrong:
            raise MismatchError(f"output {tensor.name!r}: must be in memory as the golden model says, {wrong} of {values[tensor.value].size} values differ")


def processor_patches(compiled: CompiledNetwork, codes: Mapping[str, Int8Array]) -> tuple[tuple[tuple[Patch, ...], ...], ...]:
    """What the processor writes in each inference before each program and behind the last one, as the golden model computes it. The kernels
    in C are compared with the golden model by their known answers."""
    if not compiled.kernels:
        return ()
    tensors = [[tensor for kernel in group for tensor in kernel.outputs] for group in compiled.kernels]
    values = golden_codes(compiled.graph, codes, keep={tensor.value for group in tensors for tensor in group})
    images = [[(tensor, tensor.layout.pack(values[tensor.value])) for tensor in group] for group in tensors]
    count = len(next(iter(codes.values())))
    return tuple(
        tuple(tuple(Patch(region=tensor.region, offset=tensor.offset, content=image[k].tobytes()) for tensor, image in group) for group in images)
        for k in range(count)
    )


def joined_runs(result: SimulationResult, phases: int) -> SimulationResult:
    """One result per inference: counters of its runs added, all else that of its last run."""
    if phases == 1:
        return result
    inferences = []
    for first in range(0, len(result.inferences), phases):
        runs = result.inferences[first : first + phases]
        sums = {name: sum(run.registers[name] for run in runs) for name in COUNTERS}
        inferences.append(replace(runs[-1], registers={**runs[-1].registers, **sums}, bench_cycles=sum(run.bench_cycles for run in runs)))
    return replace(result, inferences=tuple(inferences))


def simulation_job(
    compiled: CompiledNetwork, verilog: str, codes: Mapping[str, Int8Array], memory: MemoryModel, limit_cycles: int, later_entry: int | None = None
) -> SimulationJob:
    """One inference for each of `codes`; all but the first start at `later_entry`, if given."""
    sizes = compiled.region_bytes()
    return SimulationJob(
        verilog=verilog,
        config=compiled.config,
        program=compiled.program,
        weights=compiled.weights,
        arena_bytes=sizes[Region.ARENA],
        inputs=input_images(compiled, codes),
        output_bytes=sizes[Region.OUTPUT],
        later_entry=later_entry,
        phase_entries=compiled.entries[1:],
        patches=processor_patches(compiled, codes),
        memory=memory,
        cycle_limit=limit_cycles,
    )


def layer_cycles(compiled: CompiledNetwork, trace: Trace) -> tuple[int, ...]:
    """Measured cycles of each layer in inference 0, from the last results of its commands and of those before them (or the start)."""
    begin, first = _TRACED[compiled.config.machine], trace.inference == 0
    program_index = np.array(list(compute_ordinals(compiled.commands)))
    ends = np.full(len(compiled.commands), begin)
    np.maximum.at(ends, program_index[trace.command[first]], trace.cycle[first])
    return cycles_of_layers(compiled.layers, (ends - begin).tolist())


def verify(request: VerifyRequest, *, progress: Progress | None = None) -> Verification:
    """Co-simulate OUT and compare; rewrites OUT/report.

    Raises MismatchError when the accelerator stops with an error, hangs, or leaves wrong outputs while every layer is right;
    ToolError when a tool is missing. Differing layers are reported, not raised.
    """
    progress = progress or Silent()
    progress.stage("read the folder")
    manifest = read_manifest(request.out)
    report = read_report(request.out)
    compiled = load_compiled(request.out, manifest)
    arrays = read_network_arrays(request.inputs, compiled.graph.inputs)[0] if request.inputs else None
    codes = inference_codes(compiled, input_codes(compiled, arrays, request.count))
    limit = cycle_limit(compiled) + 20 * request.memory.latency_cycles * max(len(phase.commands) for phase in compiled.phases)
    verilog = (request.out / VERILOG).read_text(encoding="utf-8")
    job = simulation_job(compiled, verilog, codes, request.memory, min(limit, 1 << 31), compiled.resident_entry)
    progress.stage("co-simulate", total=job.runs)
    result = simulate(job, progress=progress.step)
    result.check()
    assert result.trace is not None and result.commands is not None
    progress.stage("compare with the golden model")
    layers = layer_comparisons(compiled, codes, result.trace)
    if all(layer.equal for layer in layers):
        output_comparison(compiled, codes, result)
    steady, phases = int(compiled.resident is not None), len(compiled.phases)
    cycles: list[int] = []
    lost: list[LostCycles] = []
    for k in range(phases):
        alone, trace, commands = compiled.alone(k), result.trace.every(phases, k), result.commands.every(phases, k)
        cycles += layer_cycles(alone, trace.part(steady, len(job.inputs)))
        lost.append(lost_cycles(alone, commands.part(steady, len(job.inputs))))
    report = verification_report(report, joined_runs(result, phases), layers, LayerCycles(cycles=cycles, first_inference=steady))
    report = with_lost(report, LostCycles.joined(lost))
    write_report(request.out, report)
    return Verification(report=report, layers=layers, result=result)

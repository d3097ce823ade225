"""The whole machine on the bench: runs one after the other, each with what the host does before, meanwhile and after it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from random_graphs import random_graph, with_few_bits

from hwgen.arith import Rounding
from hwgen.build import verilog
from hwgen.config import PRESETS, Bus, HardwareConfig, Machine, with_array
from hwgen.cosim import runner, script
from hwgen.cosim.compare import LayerComparison, LayerExpectation, compare
from hwgen.cosim.job import InferenceResult, MemoryModel, SimulationJob, Trace
from hwgen.cosim.memory import FILL, MemoryMap, memory_image, memory_map, segments
from hwgen.cosim.script import Operation
from hwgen.cosim.simulator import compile_simulator
from hwgen.errors import CapacityError
from hwgen.inputs import random_codes
from hwgen.isa.fields import Region
from hwgen.isa.instructions import Conv, Store
from hwgen.layout import Int8Array
from hwgen.ops.golden import golden_codes
from hwgen.report.collect import cycles_of_layers
from hwgen.schedule.compile import CompiledNetwork, compile_network
from hwgen.verify import expectations, layer_comparisons, layer_cycles, output_comparison, simulation_job

GUARD_BYTES = 4096  # behind the last region
render = cache(verilog)

# A compiled simulation serves every network, so the tests share few accelerators.
SMALL = replace(PRESETS["16x16"], accumulator_depth=16, weight_words=2048, parameter_words=256)  # small buffers: pieces, rings, pixel tiles
CONFIGS = {
    "4x4": replace(with_array(SMALL, "4x4"), multiplier_bits=24),
    "8x8": replace(with_array(SMALL, "8x8"), multiplier_bits=0, bus_bits=32, address_bits=40),
    "8x16": replace(with_array(SMALL, "8x16"), requantize_lanes=2, rounding=Rounding.HALF_UP, activation_tables=2, output_gaps=True, weight_decoder=True),
    "16x8": replace(with_array(SMALL, "16x8"), multiplier_bits=12, weight_decoder=True),
    "wishbone": replace(with_array(SMALL, "4x4"), bus=Bus.WISHBONE, address_bits=40, weight_decoder=True),
    "serial": replace(PRESETS["up5k"], activation_words=8192, weight_words=1024, parameter_words=32, accumulator_depth=16, output_gaps=True),
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One inference. `meanwhile`: between start and the wait for the interrupt."""

    before: tuple[Operation, ...] = ()
    meanwhile: tuple[Operation, ...] = ()
    after: tuple[Operation, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Session:
    """What was found: the registers at the end of every run, the registers read by the runs' own operations, memory before and after."""

    network: CompiledNetwork
    codes: dict[str, Int8Array]
    places: MemoryMap
    runs: tuple[InferenceResult, ...]
    reads: tuple[tuple[int, int, int], ...]  # run, register offset, value
    trace: Trace
    violations: tuple[str, ...]
    before: bytes
    after: bytes

    @cached_property
    def _expected(self) -> tuple[LayerExpectation, ...]:
        return expectations(self.network, self.codes)

    @cached_property
    def _outputs(self) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.bool_]]:
        """The output region that each run must leave, (runs, bytes), and which of its bytes belong to a channel, (bytes,)."""
        values = golden_codes(self.network.graph, self.codes)
        wanted = np.zeros((len(self.runs), self.network.region_bytes()[Region.OUTPUT]), np.int8)
        counts = np.zeros(wanted.shape[1], bool)
        for tensor in self.network.outputs:
            place, right = slice(tensor.offset, tensor.offset + tensor.size_bytes), values[tensor.value]
            wanted[:, place] = tensor.layout.pack(right)
            zeros, ones = (tensor.layout.pack(np.full_like(right[:1], value)) for value in (0, 1))
            counts[place] = (zeros != ones)[0]
        return wanted, counts

    def layers(self, run: int) -> tuple[LayerComparison, ...]:
        """The run's results against the golden model, word by word."""
        chosen = self.trace.inference == run
        names = ("command", "cycle", "address", "mask", "data")
        trace = Trace(inference=np.zeros(int(chosen.sum()), np.int64), **{name: getattr(self.trace, name)[chosen] for name in names})
        expected = [replace(layer, golden=layer.golden[run : run + 1]) for layer in self._expected]
        return compare(expected, trace, self.network.config.activation_words)

    def is_right(self, run: int) -> bool:
        """The run reached END, and every word of every layer and of the output is as it must be."""
        found, (wanted, counts) = self.runs[run], self._outputs
        output = np.frombuffer(found.output, np.int8)
        return found.finished and found.error is None and all(layer.equal for layer in self.layers(run)) and bool((output == wanted[run])[counts].all())

    def is_right_where_written(self, run: int) -> bool:
        """An unfinished run leaves right bytes and old ones, nothing else."""
        output, (wanted, counts) = np.frombuffer(self.runs[run].output, np.int8), self._outputs
        return bool(((output == wanted[run]) | (output.view(np.uint8) == FILL))[counts].all())

    def untouched_outside_the_outputs(self) -> bool:
        before, after = np.frombuffer(self.before, np.uint8), np.frombuffer(self.after, np.uint8)
        allowed = np.zeros(len(before), bool)
        for run in range(len(self.runs)):
            first = self.places.offset(Region.OUTPUT, run)
            allowed[first : first + self.places.size(Region.OUTPUT)] = True
        return bool((before == after)[~allowed].all())


@cache
def several_outputs_and_residuals(config: HardwareConfig) -> CompiledNetwork:
    """A small network that works every row of the array: at least 5 channels everywhere, kernels above 1x1 on images above 2x2, residuals,
    three outputs, and stores beside running convolutions."""
    most_cycles = 8000 if config.machine is Machine.PARALLEL else 32_000
    for seed in range(3000):
        graph = random_graph(seed, nodes=7, multiplier_bits=config.multiplier_bits, rounding=config.rounding)
        if config.weight_decoder:
            graph = with_few_bits(graph, seed)
        kinds = [value.type for value in graph.values.values()]
        if len(graph.outputs) < 3 or min(min(kind.height, kind.width) for kind in kinds) < 3 or min(kind.channels for kind in kinds) < 5:
            continue
        with contextlib.suppress(CapacityError):
            network = replace(compile_network(graph, config), resident=None)  # one program, which fills its region
            convs = [command for command in network.commands if isinstance(command, Conv)]
            first_store = next(k for k, command in enumerate(network.commands) if isinstance(command, Store))
            features = any(c.residual for c in convs), any(c.kernel_rows > 1 for c in convs), Conv in map(type, network.commands[first_store:])
            values = golden_codes(network.graph, random_codes(network.graph, 1), keep=network.graph.values)
            shows_faults = all(len(np.unique(values[layer.value])) > 8 for layer in network.layers)  # few of its values are saturated
            if all(features) and shows_faults and network.predict(1).total_cycles <= most_cycles:
                return network
    raise AssertionError("no random network is like that")


def job_of(network: CompiledNetwork, count: int, memory: MemoryModel | None = None, limit_cycles: int = 200_000) -> tuple[SimulationJob, dict[str, Int8Array]]:
    """`count` runs on different inputs."""
    codes = random_codes(network.graph, count)
    return simulation_job(network, render(network.config), codes, memory or MemoryModel(), limit_cycles), codes


def perform(network: CompiledNetwork, job: SimulationJob, codes: dict[str, Int8Array], runs: Sequence[Run], last: Sequence[Operation] = ()) -> Session:
    """Do the runs in one simulation, without reset between them, in a memory full of noise; then the operations `last`."""
    places = memory_map(job)
    word, start = job.config.bus_bytes, script.write("control", 1)
    operations = runner.setup_operations(job, places)
    for index, run in enumerate(runs):
        steps = runner.inference_operations(job, places, index)
        at = steps.index(start)
        operations += [*steps[:at], *run.before, start, *run.meanwhile, *steps[at + 1 :], *run.after]
    words = (places.end + GUARD_BYTES) // word
    before = np.random.default_rng(0).integers(0, 256, words * word, np.uint8)
    for address, content in segments(job, places):
        before[address : address + len(content)] = np.frombuffer(content, np.uint8)
    simulator = compile_simulator(job.verilog, job.config, needed_bytes=len(before))
    with tempfile.TemporaryDirectory(prefix="hwgen-") as name:
        folder = Path(name)
        (folder / "memory.hex").write_text(memory_image([(0, before.tobytes())], word))
        (folder / "script.hex").write_text(script.encode_script([*operations, script.dump(0, words), *last]))
        runner._execute(simulator, runner._arguments(job), folder, 60, None)
        log, dump = (folder / "log.txt").read_text().splitlines(), (folder / "dump.bin").read_bytes()
        trace = runner.read_trace((folder / "trace.bin").read_bytes(), job.config.in_lanes)
    reads = [line.split()[1:] for line in log if line.startswith("read ")]
    return Session(
        network=network,
        codes=codes,
        places=places,
        runs=runner._inferences(log, dump, replace(job, inputs=job.inputs[: len(runs)])),
        reads=tuple((int(run), int(offset, 16), int(value, 16)) for run, offset, value in reads),
        trace=trace,
        violations=tuple(line for line in log if line.startswith("violation ")),
        before=before.tobytes(),
        after=dump[-len(before) :],
    )


def check_on_rtl(network: CompiledNetwork, memory: MemoryModel, *, optimized: bool = True) -> int:
    """Two inferences, the second without loading weights that stay. Returns the first one's cycles.

    Every word of every layer and output is golden's, and where the memory is ideal the cycles are as predicted.
    """
    job, codes = job_of(network, 2, memory, limit_cycles=max(2_000_000, 4 * network.predict(memory.latency_cycles).total_cycles))
    result = runner.simulate(replace(job, later_entry=network.resident_entry, optimized=optimized))
    result.check()
    assert result.trace is not None
    layers = layer_comparisons(network, codes, result.trace)
    assert [(layer.name, str(layer.first)) for layer in layers if not layer.equal] == []
    output_comparison(network, codes, result)
    if memory.aligned and not memory.stall_probability:
        assert_predicted(network, memory.latency_cycles, [inference.cycles for inference in result.inferences])
        if network.config.bus is Bus.AXI4 and network.config.out_lanes <= network.config.in_lanes:  # else the last beats may write nothing
            assert_layers_predicted(network, memory.latency_cycles, result.trace)
    return result.inferences[0].cycles


def assert_layers_predicted(network: CompiledNetwork, latency_cycles: int, trace: Trace) -> None:
    """Of the first program: the resident one, where there is one, from the second inference on."""
    resident = network.resident is not None
    measured = layer_cycles(network.alone(0), trace.every(len(network.phases), 0).part(int(resident), 2))
    spans = network.predict(latency_cycles, resident=resident).spans
    assert measured == cycles_of_layers(network.steady.layers, [span.end for span in spans])


def assert_predicted(network: CompiledNetwork, latency_cycles: int, measured: list[int]) -> None:
    """To the cycle, whatever runs side by side; but on Wishbone, where reads and writes share one bus, reads beside writes take longer.

    All inferences but the first run the resident program, where there is one; with the processor in between each takes several runs.
    """
    predictions = [network.predict(latency_cycles, phase=k) for k in range(len(network.phases))]
    routines, count = list(network.phases), len(measured) // len(network.phases)
    later, again = (predictions, routines) if network.resident is None else ([network.predict(latency_cycles, resident=True)], [network.resident])
    for routine, prediction, cycles in zip(routines + again * (count - 1), predictions + later * (count - 1), measured, strict=True):
        stores = [(command, span) for command, span in zip(routine.commands, prediction.spans, strict=True) if isinstance(command, Store)]
        written = sum(command.rows * command.row_bytes for command, _ in stores) // network.config.bus_bytes
        shared = network.config.bus is Bus.WISHBONE and any(span.start < prediction.reads_until for _, span in stores)
        assert prediction.total_cycles <= cycles <= prediction.total_cycles + 2 * written * shared, (prediction.total_cycles, cycles, shared)
